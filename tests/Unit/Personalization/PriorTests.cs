using System.Text;
using Skiff.Personalization;

namespace Skiff.Unit.Personalization;

public sealed class PriorTests
{
    [Fact]
    public void ClassesForm_IsReadFeatureByFeature()
    {
        var prior = Parse("""{"prior_mean":[[1,2],[3,4],[5,6]],"prior_gram":[[1,0,0],[0,1,0],[0,0,1]],"speaker":"x"}""");

        Assert.Equal((3, 2, 0.0), (prior.Dimensions, prior.Outputs, prior.Offset));
        Assert.Equal([1f, 3, 5, 2, 4, 6], prior.Weights);
    }

    [Fact]
    public void RegressionForm_PutsThePrecisionOnTheDiagonal()
    {
        var prior = Parse("""{"mu":7.5,"w0":[1,2],"lambda_diag":[3,4]}""");

        Assert.Equal((2, 1, 7.5), (prior.Dimensions, prior.Outputs, prior.Offset));
        Assert.Equal([3.0, 0, 0, 4], prior.Gram);
    }

    [Theory]
    [InlineData("{}", "'prior_mean' and 'prior_gram'")]
    [InlineData("null", "null")]
    [InlineData("[1", "not a JSON document")]
    [InlineData("""{"prior_mean":[[1],[1,2]],"prior_gram":[[1,0],[0,1]]}""", "d rows of K numbers")]
    [InlineData("""{"prior_mean":[[1],[1]],"prior_gram":[[1]]}""", "2 rows of 2 numbers")]
    [InlineData("""{"prior_mean":[null],"prior_gram":[[1]]}""", "not null")]
    [InlineData("""{"prior_mean":[[1]],"prior_gram":[null]}""", "not null")]
    [InlineData("""{"w0":[1,2],"lambda_diag":[1]}""", "as many numbers")]
    [InlineData("""{"w0":[1],"lambda_diag":[0]}""", "positive")]
    public void MalformedPrior_SaysWhatItTakes(string json, string expected) =>
        Assert.Contains(expected, Assert.Throws<FormatException>(() => Parse(json)).Message);

    private static Prior Parse(string json) => Prior.Parse(Encoding.UTF8.GetBytes(json));
}
