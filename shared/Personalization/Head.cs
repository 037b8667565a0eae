using Skiff.Apps;

namespace Skiff.Personalization;

/// <summary>How an app's heads are made and read: what a new user starts from, and how a model's output becomes φ.</summary>
public sealed class Head
{
    private Head(HeadDocument document, int width, int dimensions, int outputs, double offset, int priorVersion, float[] weights, float[] covariance)
    {
        Document = document;
        Width = width;
        Dimensions = dimensions;
        Outputs = outputs;
        Offset = offset;
        PriorVersion = priorVersion;
        InitialWeights = weights;
        InitialCovariance = covariance;
    }

    public HeadDocument Document { get; }

    /// <summary>What the feature model gives a row.</summary>
    public int Width { get; }

    /// <summary>d: the width, and one more where a constant 1 is appended.</summary>
    public int Dimensions { get; }

    /// <summary>K; 1 for a regression.</summary>
    public int Outputs { get; }

    /// <summary>Added to every output.</summary>
    public double Offset { get; }

    /// <summary>0 without a prior.</summary>
    public int PriorVersion { get; }

    /// <summary>K × d.</summary>
    public float[] InitialWeights { get; }

    /// <summary>P₀, packed.</summary>
    public float[] InitialCovariance { get; }

    public static Head FromPrior(HeadDocument document, int width, int priorVersion, Prior prior) => new(
        document, width, prior.Dimensions, prior.Outputs, prior.Offset, priorVersion, prior.Weights,
        RidgeHead.InvertScaled(prior.Gram, prior.Dimensions, document.PriorStrength));

    /// <summary>Weights zero and P₀ = I/κ, with a constant 1 appended to the features.</summary>
    public static Head WithoutPrior(HeadDocument document, int width, int outputs)
    {
        var d = width + 1;
        var covariance = new float[RidgeHead.PackedLength(d)];
        for (int i = 0, at = 0; i < d; at += d - i, i++) covariance[at] = (float)(1 / document.PriorStrength);
        return new Head(document, width, d, outputs, 0, 0, new float[outputs * d], covariance);
    }

    /// <summary>φ of one row of the feature model's output.</summary>
    public void ReadFeatures(ReadOnlySpan<float> output, Span<float> features)
    {
        output.CopyTo(features);
        if (Dimensions > Width) features[Width] = 1;
    }
}
