namespace Skiff.Ranking;

/// <summary>What is kept of an event until it is settled: where its features and rewards wait for each other.</summary>
internal sealed class RankEvent
{
    private const byte FormatVersion = 1;

    public required uint Space { get; init; }

    /// <summary>Whether it will be learnt from: it was shown.</summary>
    public required bool IsActive { get; set; }

    /// <summary>Places that are not learnt yet.</summary>
    public required List<Place> Places { get; init; }

    public sealed class Place(string slot, byte[] features, int rewards, double sum)
    {
        public string Slot => slot;

        public byte[] Features => features;

        /// <summary>How many rewards have come.</summary>
        public int Rewards { get; private set; } = rewards;

        public double Sum { get; private set; } = sum;

        public void Add(double reward)
        {
            Rewards++;
            Sum += reward;
        }
    }

    public byte[] ToBytes()
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream);
        writer.Write(FormatVersion);
        writer.Write(Space);
        writer.Write(IsActive);
        writer.Write7BitEncodedInt(Places.Count);
        foreach (var place in Places)
        {
            writer.Write(place.Slot);
            writer.Write7BitEncodedInt(place.Features.Length);
            writer.Write(place.Features);
            writer.Write7BitEncodedInt(place.Rewards);
            writer.Write(place.Sum);
        }
        writer.Flush();
        return stream.ToArray();
    }

    /// <exception cref="FormatException">It was written by a later version of this program.</exception>
    public static RankEvent Read(byte[] bytes)
    {
        using var reader = new BinaryReader(new MemoryStream(bytes));
        if (reader.ReadByte() != FormatVersion) throw new FormatException($"an event of format {bytes[0]}; known is {FormatVersion}");
        return new RankEvent
        {
            Space = reader.ReadUInt32(),
            IsActive = reader.ReadBoolean(),
            Places = [.. Enumerable.Range(0, reader.Read7BitEncodedInt()).Select(_ =>
                new Place(reader.ReadString(), reader.ReadBytes(reader.Read7BitEncodedInt()), reader.Read7BitEncodedInt(), reader.ReadDouble()))],
        };
    }
}
