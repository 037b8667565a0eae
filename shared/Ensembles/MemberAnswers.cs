using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Skiff.Ensembles;

/// <summary>
/// What each member said of a row, small enough to travel in a decision's id until feedback comes: of each member its likeliest classes in 255ths, which for a member that is sure is three bytes.
/// <code>
/// members 4 | chosen 1 | a member: count 1, count × (class, as many bytes as it takes; probability 1) | …
/// </code>
/// <c>members</c> tells which members these are, in their order; <c>chosen</c> is 1 more than the one that a policy chose, 0 where all ran; a member that was missing has no classes.
/// </summary>
internal static class MemberAnswers
{
    private const int MostClasses = 8;

    /// <summary>Which members these are.</summary>
    public static uint Identify(IReadOnlyList<string> members) => BinaryPrimitives.ReadUInt32LittleEndian(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join(',', members))));

    /// <param name="probabilities">M × C.</param>
    /// <param name="present">Bit m stands for member m.</param>
    /// <param name="chosen">-1 where all ran.</param>
    public static byte[] Write(uint members, int chosen, ReadOnlySpan<float> probabilities, int classes, ulong present)
    {
        using var stream = new MemoryStream(64);
        using var writer = new BinaryWriter(stream);
        writer.Write(members);
        writer.Write((byte)(chosen + 1));
        Span<(int Class, byte Part)> likeliest = stackalloc (int, byte)[MostClasses];
        for (var m = 0; m * classes < probabilities.Length; m++)
        {
            var count = (present >> m & 1) == 0 ? 0 : FindLikeliest(probabilities.Slice(m * classes, classes), likeliest);
            writer.Write((byte)count);
            foreach (var (label, part) in likeliest[..count])
            {
                writer.Write7BitEncodedInt(label);
                writer.Write(part);
            }
        }
        writer.Flush();
        return stream.ToArray();
    }

    /// <param name="probabilities">M × C; receives 0 for what was not kept.</param>
    /// <returns>Who was chosen, -1 where all ran, and who was there; null for what are no answers of these members.</returns>
    public static (int Chosen, ulong Present)? Read(byte[] bytes, uint members, Span<float> probabilities, int classes)
    {
        try
        {
            using var reader = new BinaryReader(new MemoryStream(bytes));
            if (reader.ReadUInt32() != members) return null;
            var chosen = reader.ReadByte() - 1;
            var present = 0UL;
            probabilities.Clear();
            for (var m = 0; m * classes < probabilities.Length; m++)
            {
                var count = reader.ReadByte();
                if (count > 0) present |= 1UL << m;
                for (var i = 0; i < count; i++)
                {
                    var label = reader.Read7BitEncodedInt();
                    if (label >= classes) return null;
                    probabilities[m * classes + label] = reader.ReadByte() / 255f;
                }
            }
            return chosen * classes < probabilities.Length ? (chosen, present) : null;
        }
        catch (Exception e) when (e is EndOfStreamException or FormatException)
        {
            return null;
        }
    }

    /// <summary>The classes with at least a 510th, from the likeliest on; there is always one.</summary>
    private static int FindLikeliest(ReadOnlySpan<float> probabilities, Span<(int Class, byte Part)> likeliest)
    {
        Span<float> kept = stackalloc float[MostClasses];
        var count = 0;
        for (var c = 0; c < probabilities.Length; c++)
        {
            var at = count;
            while (at > 0 && kept[at - 1] < probabilities[c]) at--;
            if (at == MostClasses) continue;
            count = Math.Min(count + 1, MostClasses);
            for (var i = count - 1; i > at; i--) (kept[i], likeliest[i]) = (kept[i - 1], likeliest[i - 1]);
            kept[at] = probabilities[c];
            likeliest[at] = (c, (byte)Math.Round(255 * Math.Clamp(probabilities[c], 0, 1)));
        }
        while (count > 1 && likeliest[count - 1].Part == 0) count--;
        return count;
    }
}
