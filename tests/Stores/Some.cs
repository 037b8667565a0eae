using System.Runtime.InteropServices;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Support;

namespace Skiff.Stores;

/// <summary>Feedback and heads of which only what a test is about matters.</summary>
internal static class Some
{
    /// <summary>What can befall a request to a service that a repeat makes good.</summary>
    public static TheoryData<Fault> Faults => [Fault.ServerError, Fault.SlowDown, Fault.Skew, Fault.Reset, Fault.LostAnswer, Fault.Truncate, Fault.Stall];

    public static FeedbackMessage Feedback(string id, string user = "u1") => new()
    {
        Tenant = "default",
        App = "app",
        User = user,
        FeedbackId = id,
        Label = 3,
        FeaturesVersion = 1,
        PriorVersion = 1,
        Features = MemoryMarshal.AsBytes<float>([0.1f, -2.5e-30f, float.MaxValue]).ToArray(),
        At = new DateTimeOffset(2025, 6, 1, 12, 0, 0, TimeSpan.Zero),
    };

    public static byte[] Bytes(int size)
    {
        var bytes = new byte[size];
        new Random(size).NextBytes(bytes);
        return bytes;
    }

    /// <summary>Without printing megabytes when they differ.</summary>
    public static void AssertSame(byte[] expected, byte[] actual) =>
        Assert.True(expected.AsSpan().SequenceEqual(actual), $"{actual.Length} bytes are not the {expected.Length} expected");

    public static AcceptedFeedback Accepted(string id, string user = "u1") => new(Feedback(id, user), true, null);

    /// <summary>A head of awkward numbers that depend on the seed.</summary>
    public static HeadState Head(int seed = 1)
    {
        var random = new Random(seed);
        return new HeadState(
            new HeadWeights { FeaturesVersion = seed, PriorVersion = seed + 1, Updates = seed + 2, Offset = random.NextDouble(), Weights = Floats(650), Tag = "" },
            Floats(65 * 66 / 2)) { Memory = Bytes(52 + seed) };

        float[] Floats(int count)
        {
            float[] values = [0, -0f, float.Epsilon, float.MaxValue, 1 / 3f, .. Enumerable.Range(0, count - 5).Select(_ => (float)(random.NextDouble() - 0.5))];
            return values;
        }
    }
}
