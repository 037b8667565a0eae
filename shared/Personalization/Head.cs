using Skiff.Apps;

namespace Skiff.Personalization;

/// <summary>How much of P a head keeps.</summary>
public enum HeadForm
{
    /// <summary>All of it, packed: exactly the batch solution, d (d + 1) / 2 numbers and O(d²) an update.</summary>
    Full,

    /// <summary>Its diagonal: d numbers and O(d) an update.</summary>
    Diagonal,
}

/// <summary>How an app's heads are made and read: what a new user starts from, and how a model's output becomes φ.</summary>
public sealed class Head
{
    /// <summary>d up to which a head has the full form unless its document says otherwise: its covariance takes 400 KB there, which is what an item of a table holds.</summary>
    public const int MostFull = 448;

    private readonly double[] _fades;
    private readonly float[] _anchors;

    private Head(HeadDocument document, int width, int outputs, double offset, int priorVersion, float[] weights, Prior? prior)
    {
        Document = document;
        Width = width;
        Dimensions = weights.Length / outputs;
        Outputs = outputs;
        Offset = offset;
        PriorVersion = priorVersion;
        InitialWeights = weights;
        Form = document.Form ?? (Dimensions <= MostFull ? HeadForm.Full : HeadForm.Diagonal);
        (InitialCovariance, _anchors) = Open(Dimensions, prior);
        TypicalNorm = prior is not null && Dimensions > width ? (float)Math.Sqrt(Enumerable.Range(0, Dimensions).Sum(prior.Precision) / prior.Precision(width)) : float.NaN;
        _fades = [.. Enumerable.Range(0, document.PriorFade?.Labels ?? 0).Select(age => document.PriorFade!.WeightOf(age) / document.PriorFade.WeightOf(age + 1))];
    }

    public HeadDocument Document { get; }

    public HeadForm Form { get; }

    /// <summary>What the feature model gives a row.</summary>
    public int Width { get; }

    /// <summary>d: the width, and one more where a constant 1 is appended.</summary>
    public int Dimensions { get; }

    /// <summary>K; 1 for a regression and for a ranking.</summary>
    public int Outputs { get; }

    /// <summary>Added to every output.</summary>
    public double Offset { get; }

    /// <summary>0 without a prior.</summary>
    public int PriorVersion { get; }

    /// <summary>K × d.</summary>
    public float[] InitialWeights { get; }

    /// <summary>P₀: packed, or its diagonal.</summary>
    public float[] InitialCovariance { get; }

    /// <summary>|φ| over the population: the root of its mean square, where the prior's Gram matrix counts its examples in the constant's place; NaN elsewhere.</summary>
    public float TypicalNorm { get; }

    public static Head FromPrior(HeadDocument document, int width, int priorVersion, Prior prior) =>
        new(document, width, prior.Outputs, prior.Offset, priorVersion, prior.Weights, prior);

    /// <summary>Weights zero and P₀ = I/κ, with a constant 1 appended to the features.</summary>
    public static Head WithoutPrior(HeadDocument document, int width, int outputs) => new(document, width, outputs, 0, 0, new float[outputs * (width + 1)], null);

    /// <summary>φ of one row of the feature model's output.</summary>
    public void ReadFeatures(ReadOnlySpan<float> output, Span<float> features)
    {
        output.CopyTo(features);
        if (Dimensions > Width) features[Width] = 1;
    }

    /// <summary>By what all evidence fades with the update at an age, for the prior's sake: 1 once it has faded as far as it is to.</summary>
    internal double FadeOf(int age) => age < _fades.Length ? _fades[age] : 1;

    /// <summary>Column i of L in A₀ = LLᵀ from the diagonal down, for <see cref="RidgeHead.Anchor"/>.</summary>
    internal ReadOnlySpan<float> Anchor(int i) => _anchors.AsSpan(RidgeHead.PackedLength(Dimensions) - RidgeHead.PackedLength(Dimensions - i), Dimensions - i);

    private (float[] Covariance, float[] Anchors) Open(int d, Prior? prior)
    {
        var strength = Document.PriorStrength;
        if (Form == HeadForm.Diagonal) return ([.. Enumerable.Range(0, d).Select(i => (float)(1 / (strength * (prior?.Precision(i) ?? 1))))], []);
        var lower = new double[d * d];
        if (prior?.Gram is { } gram) lower = Cholesky.Factor(gram, d, strength);
        else for (var i = 0; i < d; i++) lower[i * d + i] = Math.Sqrt(strength);
        var anchors = new float[Document.Forgetting < 1 ? RidgeHead.PackedLength(d) : 0];
        for (int i = 0, at = 0; i < d && at < anchors.Length; i++)
        {
            for (var j = i; j < d; j++) anchors[at++] = (float)lower[j * d + i];
        }
        return (Cholesky.InvertPacked(lower, d), anchors);
    }
}
