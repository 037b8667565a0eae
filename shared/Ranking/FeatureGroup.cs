using Skiff.Serving.Json;

namespace Skiff.Ranking;

/// <summary>The features of one namespace.</summary>
/// <param name="Hash">Of its name; 0 for features that stand outside any.</param>
internal sealed record FeatureGroup(string Name, uint Hash)
{
    /// <summary>Hashes, not yet cut to the model's bits, with their values.</summary>
    public List<(uint Hash, float Value)> Features { get; } = [];
}

/// <summary>
/// Features as JSON says them, read as Vowpal Wabbit reads JSON: an object within is a namespace, a number is a feature of that value, true a feature of value 1, a text a feature for each of its values; false, null and 0 are no feature,
/// and an array's numbers are features by their place.
/// </summary>
internal sealed class FeatureReader
{
    /// <summary>Features that one context or one action may have: what is crossed is their product.</summary>
    public const int MostFeatures = 2048;

    private readonly Dictionary<string, FeatureGroup> _groups = [];
    private int _count;

    public IReadOnlyCollection<FeatureGroup> Groups => _groups.Values;

    /// <summary>Reads an object of features, or an array of such objects, whose features add up.</summary>
    public void Read(ref JsonCursor cursor, string what)
    {
        if (cursor.Peek() != JsonKind.Array)
        {
            ReadObject(ref cursor, Group(""), what);
            return;
        }
        cursor.BeginArray();
        while (cursor.NextElement()) ReadObject(ref cursor, Group(""), what);
    }

    /// <summary>Adds a feature that isn't said in JSON.</summary>
    public void Add(string group, ReadOnlySpan<byte> name, ReadOnlySpan<byte> text)
    {
        var to = Group(group);
        Add(to, VowpalHash.Hash(text, VowpalHash.Hash(name, to.Hash)), 1, group);
    }

    private void ReadObject(ref JsonCursor cursor, FeatureGroup group, string what)
    {
        cursor.BeginObject(what, "an object of features, or an array of such objects");
        while (cursor.NextProperty(out var name))
        {
            switch (cursor.Peek())
            {
                case JsonKind.Object:
                    ReadObject(ref cursor, Group(System.Text.Encoding.UTF8.GetString(name)), what);
                    break;
                case JsonKind.Array:
                    ReadArray(ref cursor, Group(System.Text.Encoding.UTF8.GetString(name)), what);
                    break;
                default:
                    ReadFeature(ref cursor, group, VowpalHash.Hash(name, group.Hash), what);
                    break;
            }
        }
    }

    private void ReadArray(ref JsonCursor cursor, FeatureGroup group, string what)
    {
        cursor.BeginArray();
        for (var place = 0u; cursor.NextElement(); place++)
        {
            if (cursor.Peek() == JsonKind.Object) ReadObject(ref cursor, group, what);
            else ReadFeature(ref cursor, group, group.Hash + place, what);
        }
    }

    private void ReadFeature(ref JsonCursor cursor, FeatureGroup group, uint hash, string what)
    {
        switch (cursor.Peek())
        {
            case JsonKind.Number:
                Add(group, hash, Squash(cursor.ReadDouble()), what);
                break;
            case JsonKind.String:
                Add(group, HashOfText(cursor.ReadUtf8String(), hash), 1, what);
                break;
            case JsonKind.True:
                cursor.Skip();
                Add(group, hash, 1, what);
                break;
            case JsonKind.Array:
                throw RequestException.Invalid($"{what} has an array within an array: it takes numbers, texts, true and false, objects of them, and arrays of them");
            default:
                cursor.Skip(); // false, null
                break;
        }
    }

    private void Add(FeatureGroup group, uint hash, float value, string what)
    {
        if (value == 0) return;
        if (++_count > MostFeatures) throw RequestException.Invalid($"{what} has more than {MostFeatures} features");
        group.Features.Add((hash, value));
    }

    private FeatureGroup Group(string name)
    {
        if (!_groups.TryGetValue(name, out var group)) _groups[name] = group = new FeatureGroup(name, VowpalHash.Hash(System.Text.Encoding.UTF8.GetBytes(name), 0));
        return group;
    }

    /// <summary>Vowpal Wabbit's own text format gives these characters a meaning, so its reader of JSON replaces them.</summary>
    private static uint HashOfText(ReadOnlySpan<byte> text, uint seed)
    {
        if (text.IndexOfAny(" \t|:"u8) < 0) return VowpalHash.Hash(text, seed);
        var escaped = text.ToArray();
        foreach (ref var letter in escaped.AsSpan())
        {
            if (letter is (byte)' ' or (byte)'\t' or (byte)'|' or (byte)':') letter = (byte)'_';
        }
        return VowpalHash.Hash(escaped, seed);
    }

    /// <summary>Beyond ±1 a number counts by its logarithm: a price of 1,200 must not drown the rest. Continuous, odd, and rising.</summary>
    private static float Squash(double value) => (float)(Math.Abs(value) <= 1 ? value : Math.CopySign(1 + Math.Log(Math.Abs(value)), value));
}
