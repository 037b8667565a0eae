using System.Buffers.Binary;

namespace Skiff.Selection;

/// <summary>Whose state it is. The numbers are stored: they may be added to, never changed.</summary>
public enum PolicyKind : byte
{
    Exp3 = 1,
    Exp4 = 2,
    EpsilonGreedy = 3,
    Thompson = 4,
}

/// <summary>
/// What a policy has learnt about one user or context; not for several threads at once. It is stored as little-endian bytes, 28 of them for five members of an ensemble:
/// <code>
/// version 1 | kind 1 | K 1 | 0 1 | updates 4 | float32 × K (log-weights) or × 2K (ε-greedy: mean losses, counts; Thompson: gains, losses)
/// </code>
/// In memory the values have the same 32 bits, so that a policy does the same whether or not its state was stored in between.
/// </summary>
public sealed class PolicyState
{
    public const int MostArms = 64;

    private const byte FormatVersion = 1;
    private const int HeaderLength = 8;

    internal PolicyState(PolicyKind kind, int arms)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(arms, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(arms, MostArms);
        Kind = kind;
        Arms = arms;
        Values = new float[ValuesAnArm(kind) * arms];
    }

    public PolicyKind Kind { get; }

    /// <summary>K. An app whose actions have changed must start anew: the order of the actions is their identity.</summary>
    public int Arms { get; }

    /// <summary>Losses learnt; stays at the largest uint32 when it gets there.</summary>
    public uint Updates { get; private set; }

    public int ByteLength => HeaderLength + sizeof(float) * Values.Length;

    internal float[] Values { get; }

    /// <exception cref="FormatException">The bytes are not a state, or one of a version that this program does not know.</exception>
    public static PolicyState Read(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length < HeaderLength) throw new FormatException($"a policy's state takes at least {HeaderLength} bytes; there are {bytes.Length}");
        if (bytes[0] != FormatVersion) throw new FormatException($"this is a policy's state of version {bytes[0]}; known is {FormatVersion}");
        var kind = (PolicyKind)bytes[1];
        var arms = (int)bytes[2];
        if (ValuesAnArm(kind) == 0) throw new FormatException($"there is no policy {bytes[1]}");
        if (arms is < 1 or > MostArms || bytes[3] != 0) throw new FormatException($"a policy's state has from 1 to {MostArms} actions, then a zero; here are {arms} and {bytes[3]}");
        var state = new PolicyState(kind, arms) { Updates = BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]) };
        if (bytes.Length != state.ByteLength) throw new FormatException($"{kind} of {arms} actions takes {state.ByteLength} bytes; there are {bytes.Length}");
        for (var i = 0; i < state.Values.Length; i++)
        {
            var value = BinaryPrimitives.ReadSingleLittleEndian(bytes[(HeaderLength + sizeof(float) * i)..]);
            if (!float.IsFinite(value) || (!HoldsLogWeights(kind) && value < 0)) throw new FormatException($"value {i} of {kind}'s state is {value}");
            state.Values[i] = value;
        }
        return state;
    }

    /// <param name="bytes">At least <see cref="ByteLength"/>.</param>
    public void Write(Span<byte> bytes)
    {
        bytes[0] = FormatVersion;
        bytes[1] = (byte)Kind;
        bytes[2] = (byte)Arms;
        bytes[3] = 0;
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[4..], Updates);
        for (var i = 0; i < Values.Length; i++) BinaryPrimitives.WriteSingleLittleEndian(bytes[(HeaderLength + sizeof(float) * i)..], Values[i]);
    }

    public byte[] ToBytes()
    {
        var bytes = new byte[ByteLength];
        Write(bytes);
        return bytes;
    }

    internal void CountUpdate()
    {
        if (Updates < uint.MaxValue) Updates++;
    }

    private static bool HoldsLogWeights(PolicyKind kind) => kind is PolicyKind.Exp3 or PolicyKind.Exp4;

    private static int ValuesAnArm(PolicyKind kind) => kind switch
    {
        PolicyKind.Exp3 or PolicyKind.Exp4 => 1,
        PolicyKind.EpsilonGreedy or PolicyKind.Thompson => 2,
        _ => 0,
    };
}
