using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Personalization;
using Skiff.Support;
using Tensor = Skiff.Models.Tensor;

namespace Skiff.Benchmarks;

/// <summary>A speaker of the digits sample, seen by the body that never heard it: 500 clips, of which the first 300 adapt a head and the last 200 are held out.</summary>
internal sealed class Speaker
{
    public const int Clips = 500, Adapting = 300, Width = 64, Dimensions = Width + 1, Classes = 10;

    public static readonly string[] Names = ["george", "jackson", "lucas", "nicolas"];

    private readonly float[] _features;

    private Speaker(string name, float[] features, byte[] labels, Prior prior) => (Name, _features, Labels, Prior) = (name, features, labels, prior);

    public string Name { get; }

    public byte[] Labels { get; }

    public Prior Prior { get; }

    /// <summary>φ of a clip, the constant 1 included.</summary>
    public ReadOnlySpan<float> this[int clip] => _features.AsSpan(clip * Dimensions, Dimensions);

    /// <summary>A head's document with nothing but the prior at the sample's strength; suites add what they are about.</summary>
    public static HeadDocument Plain { get; } = new() { Features = "digits_body", Kind = HeadKind.Classes, Prior = "digits_prior", PriorStrength = 0.02, Guards = GuardDocument.Off };

    /// <summary>The head of the app that is shipped.</summary>
    public static HeadDocument Shipped { get; } = AppDocument.Parse(File.ReadAllBytes(Repository.Sample("digits/app.json"))).Head!;

    public static Speaker[] LoadAll() => [.. Names.Select(Load)];

    public Head Open(HeadDocument document) => Head.FromPrior(document, Width, 1, Prior);

    /// <summary>Learns a clip as a label.</summary>
    public Lesson Learn(LearningHead head, int clip, int label, float scale = 1)
    {
        Span<float> target = stackalloc float[Classes], features = stackalloc float[Dimensions];
        target.Clear();
        target[label] = 1;
        TensorPrimitives.Multiply(this[clip], scale, features);
        return head.Learn(features, target, DateTimeOffset.UnixEpoch);
    }

    /// <summary>What weights answer.</summary>
    public int Answer(float[] weights, int clip)
    {
        Span<float> scores = stackalloc float[Classes];
        scores.Clear();
        RidgeHead.Score(weights, this[clip], scores);
        return TensorPrimitives.IndexOfMax<float>(scores);
    }

    /// <param name="truth">The right label of a clip; null for the recorded one.</param>
    public double Accuracy(float[] weights, IEnumerable<int> clips, Func<int, int>? truth = null) => clips.Average(clip => Answer(weights, clip) == (truth?.Invoke(clip) ?? Labels[clip]) ? 1.0 : 0);

    /// <summary>A seed's order of so many of the first clips.</summary>
    public static int[] Order(int seed, int clips)
    {
        int[] order = [.. Enumerable.Range(0, clips)];
        new Random(seed).Shuffle(order);
        return order;
    }

    private static Speaker Load(string name)
    {
        var model = File.ReadAllBytes(Repository.Sample($"digits/digits-body-without-{name}.onnx"));
        var clips = Idx.Read(Repository.Sample($"digits/{name}-logmel-idx3-ubyte.gz"));
        var session = ModelSession.Load(model, OnnxFile.Inspect(model, ModelLimits.Default));
        var buffer = new TensorBuffer();
        var input = new Tensor { Name = "logmel", Type = DataType.Fp32, Shape = [clips.Count, 1, 24, 32], Length = clips.Values.Length * sizeof(float) };
        input.Offset = buffer.Allocate(input.Length);
        var values = MemoryMarshal.Cast<byte, float>(buffer.Span(input.Offset, input.Length));
        for (var i = 0; i < values.Length; i++) values[i] = (clips.Values[i] - 128) / 42f;
        var features = new float[clips.Count * Dimensions];
        using (var outputs = session.Run(buffer, [input]))
        {
            for (var clip = 0; clip < clips.Count; clip++)
            {
                outputs.Floats(0).Slice(clip * Width, Width).CopyTo(features.AsSpan(clip * Dimensions));
                features[clip * Dimensions + Width] = 1;
            }
        }
        session.Leave();
        return new Speaker(name, features, Idx.Read(Repository.Sample($"digits/{name}-labels-idx1-ubyte.gz")).Values, Prior.Parse(File.ReadAllBytes(Repository.Sample($"digits/{name}-prior.json"))));
    }
}
