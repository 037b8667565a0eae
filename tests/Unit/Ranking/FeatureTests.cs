using System.Text;
using Skiff.Ranking;
using Skiff.Serving.Json;

namespace Skiff.Unit.Ranking;

public sealed class FeatureTests
{
    [Fact]
    public void Objects_AreNamespacesAndTextsAreFeaturesOfTheirValue()
    {
        var groups = Read("""[{"user":{"age":0.5,"city":"New York"}},{"time":"morning","weekend":true,"raining":false,"nothing":null,"zero":0}]""");

        var user = VowpalHash.Hash("user"u8, 0);
        Assert.Equal([(VowpalHash.Hash("age"u8, user), 0.5f), (VowpalHash.Hash("New_York"u8, VowpalHash.Hash("city"u8, user)), 1f)], groups["user"]);
        Assert.Equal([(VowpalHash.Hash("morning"u8, VowpalHash.Hash("time"u8, 0)), 1f), (VowpalHash.Hash("weekend"u8, 0), 1f)], groups[""]);
    }

    [Fact]
    public void ArraysOfNumbers_AreFeaturesByTheirPlace()
    {
        var taste = VowpalHash.Hash("taste"u8, 0);
        Assert.Equal([(taste, 0.5f), (taste + 2, -0.25f)], Read("""{"taste":[0.5,0,-0.25]}""")["taste"]);
    }

    [Fact]
    public void LargeNumbers_CountByTheirLogarithm()
    {
        var value = Assert.Single(Read("""{"price":-1200}""")[""]).Value;
        Assert.Equal(-(1 + MathF.Log(1200)), value, 5);
    }

    [Theory]
    [InlineData("5")]
    [InlineData("""["a"]""")]
    [InlineData("""{"a":[[1]]}""")]
    public void WhatIsNoFeature_IsRefusedByName(string json) => Assert.Contains("features of x", Assert.Throws<RequestException>(() => Read(json, "features of x")).Message);

    [Fact]
    public void TooManyFeatures_AreRefused()
    {
        var json = $"{{{string.Join(',', Enumerable.Range(0, FeatureReader.MostFeatures + 1).Select(i => $"\"f{i}\":1"))}}}";
        Assert.Contains($"{FeatureReader.MostFeatures}", Assert.Throws<RequestException>(() => Read(json)).Message);
    }

    [Fact]
    public void CombinedFeatures_AreThoseOfBothAndTheirProductsOfLengthOne()
    {
        var space = new FeatureSpace(10, [("user", "action")], false, 1);
        var vector = space.Combine(Groups("""{"user":{"a":2},"other":{"b":1}}"""), Groups("""{"c":0.5}"""));

        var (a, b, c) = (VowpalHash.Hash("a"u8, VowpalHash.Hash("user"u8, 0)), VowpalHash.Hash("b"u8, VowpalHash.Hash("other"u8, 0)), VowpalHash.Hash("c"u8, 0));
        var two = 1 + MathF.Log(2);
        var expected = new Dictionary<int, float> { [(int)(a & 1023)] = two, [(int)(b & 1023)] = 1, [(int)(c & 1023)] = 0.5f, [(int)((a * 16777619 ^ c) & 1023)] = two / 2 };
        var length = MathF.Sqrt(expected.Values.Sum(value => value * value));
        Assert.Equal(expected.Keys.Order(), vector.Indices);
        Assert.All(vector.Indices.Zip(vector.Values), pair => Assert.Equal(expected[pair.First] / length, pair.Second, 5));
    }

    [Fact]
    public void TooManyProducts_AreRefused()
    {
        var many = $"{{{string.Join(',', Enumerable.Range(0, 100).Select(i => $"\"f{i}\":1"))}}}";
        var space = new FeatureSpace(10, [("context", "action")], false, 1);
        Assert.Throws<RequestException>(() => space.Combine(Groups(many), Groups(many)));
    }

    [Fact]
    public void OtherInteractions_MakeAnotherSpace()
    {
        var space = new FeatureSpace(10, [("a", "b")], false, 1);
        Assert.Equal(space.Id, new FeatureSpace(10, [("a", "b")], false, 1).Id);
        Assert.NotEqual(space.Id, new FeatureSpace(10, [("ab", "")], false, 1).Id);
        Assert.NotEqual(space.Id, new FeatureSpace(11, [("a", "b")], false, 1).Id);
    }

    [Fact]
    public void Vectors_AreWrittenAndReadAndSubtracted()
    {
        var vector = new SparseVector([1, 5, 9], [0.5f, -1, 2]);
        var again = SparseVector.Read(vector.ToBytes());
        Assert.Equal(vector.Indices, again.Indices);
        Assert.Equal(vector.Values, again.Values);

        var difference = vector.Minus(new SparseVector([0, 5, 9], [1, -1, 0.5f]));
        Assert.Equal([0, 1, 9], difference.Indices);
        Assert.Equal([-1, 0.5f, 1.5f], difference.Values);
    }

    private static IReadOnlyCollection<FeatureGroup> Groups(string json)
    {
        var reader = new FeatureReader();
        var cursor = new JsonCursor(Encoding.UTF8.GetBytes(json));
        reader.Read(ref cursor, "features");
        cursor.End();
        return reader.Groups;
    }

    private static Dictionary<string, List<(uint Hash, float Value)>> Read(string json, string what = "features")
    {
        var reader = new FeatureReader();
        var cursor = new JsonCursor(Encoding.UTF8.GetBytes(json));
        reader.Read(ref cursor, what);
        cursor.End();
        return reader.Groups.ToDictionary(group => group.Name, group => group.Features);
    }
}
