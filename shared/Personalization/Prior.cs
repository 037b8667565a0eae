using System.Text.Json;
using System.Text.Json.Serialization;

namespace Skiff.Personalization;

/// <summary>
/// The population's head, which every user starts from: weights and how sure they are. Published like a model, as a JSON document in one of two forms:
/// <code>
/// classes     {"prior_mean": [[…K] …d], "prior_gram": [[…d] …d]}  one column of weights a class
/// regression  {"mu": 7.4, "w0": […d], "lambda_diag": […d]}        output = mu + wᵀφ; one column of the first form with a "mu" says the same with a whole Gram matrix
/// </code>
/// Other fields are notes. When d is one more than the feature model's outputs, a constant 1 is appended to the features.
/// </summary>
public sealed class Prior
{
    private readonly double[] _precision;
    private double[]? _gram;

    /// <param name="precision">The diagonal of G.</param>
    /// <param name="gram">G; null where it is its diagonal.</param>
    private Prior(int outputs, double offset, float[] weights, double[] precision, double[]? gram) =>
        (Dimensions, Outputs, Offset, Weights, _precision, _gram) = (precision.Length, outputs, offset, weights, precision, gram);

    /// <summary>d, the constant 1 included.</summary>
    public int Dimensions { get; }

    /// <summary>K; 1 for regression.</summary>
    public int Outputs { get; }

    /// <summary>Added to every output: the mean of a regression's target.</summary>
    public double Offset { get; }

    /// <summary>K × d.</summary>
    public float[] Weights { get; }

    /// <summary>G: how much evidence the weights rest on, d × d by rows.</summary>
    public double[] Gram => _gram ??= Expand(_precision);

    /// <summary>An element of G's diagonal.</summary>
    public double Precision(int i) => _precision[i];

    /// <exception cref="FormatException">The document is not a prior; the message says why.</exception>
    public static Prior Parse(ReadOnlySpan<byte> json)
    {
        PriorDocument document;
        try
        {
            document = JsonSerializer.Deserialize(json, PriorJson.Default.PriorDocument) ?? throw new FormatException("the prior is null");
        }
        catch (JsonException e)
        {
            throw new FormatException($"the prior is not a JSON document of the form that is known: {e.Message}", e);
        }
        return document switch
        {
            { PriorMean: { } mean, PriorGram: { } gram } => Classes(document.Mu, mean, gram),
            { W0: { } weights, LambdaDiag: { } precision } => Regression(document.Mu, weights, precision),
            _ => throw new FormatException("a prior has 'prior_mean' and 'prior_gram' (classes), or 'mu', 'w0' and 'lambda_diag' (regression)"),
        };
    }

    /// <summary>The same population with other weights and other evidence.</summary>
    internal Prior With(float[] weights, double[] gram) => new(Outputs, Offset, weights, [.. Enumerable.Range(0, Dimensions).Select(i => gram[i * Dimensions + i])], gram);

    private static Prior Classes(double offset, double[][] mean, double[][] gram)
    {
        if (mean.Any(row => row is null) || gram.Any(row => row is null)) throw new FormatException("'prior_mean' and 'prior_gram' take rows of numbers, not null");
        var d = mean.Length;
        var outputs = d == 0 ? 0 : mean[0].Length;
        if (d == 0 || outputs == 0 || mean.Any(row => row.Length != outputs)) throw new FormatException("'prior_mean' takes d rows of K numbers each");
        if (gram.Length != d || gram.Any(row => row.Length != d)) throw new FormatException($"'prior_gram' takes {d} rows of {d} numbers each, as 'prior_mean' has {d} rows");
        var weights = new float[outputs * d];
        for (var k = 0; k < outputs; k++)
        {
            for (var i = 0; i < d; i++) weights[k * d + i] = (float)mean[i][k];
        }
        return new Prior(outputs, offset, weights, [.. gram.Select((row, i) => row[i])], [.. gram.SelectMany(row => row)]);
    }

    private static Prior Regression(double mu, double[] weights, double[] precision)
    {
        var d = weights.Length;
        if (d == 0 || precision.Length != d) throw new FormatException($"'w0' and 'lambda_diag' take as many numbers as each other, not {d} and {precision.Length}");
        if (precision.Any(value => !(value > 0))) throw new FormatException("'lambda_diag' takes positive numbers");
        return new Prior(1, mu, [.. weights.Select(weight => (float)weight)], precision, null);
    }

    private static double[] Expand(double[] diagonal)
    {
        var matrix = new double[diagonal.Length * diagonal.Length];
        for (var i = 0; i < diagonal.Length; i++) matrix[i * diagonal.Length + i] = diagonal[i];
        return matrix;
    }
}

internal sealed record PriorDocument
{
    public double[][]? PriorMean { get; init; }
    public double[][]? PriorGram { get; init; }
    public double Mu { get; init; }
    public double[]? W0 { get; init; }
    public double[]? LambdaDiag { get; init; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(PriorDocument))]
internal sealed partial class PriorJson : JsonSerializerContext;
