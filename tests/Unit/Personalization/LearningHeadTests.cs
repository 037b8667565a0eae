using FsCheck;
using FsCheck.Fluent;
using Skiff.Apps;
using Skiff.Personalization;

namespace Skiff.Unit.Personalization;

public sealed class LearningHeadTests
{
    private const int D = 6, Outputs = 3;
    private static readonly HeadDocument Plain = new() { Features = "f", Kind = HeadKind.Classes, Guards = GuardDocument.Off };
    private static readonly DateTimeOffset Start = DateTimeOffset.UnixEpoch;

    [Fact]
    public void WithoutForgetting_ItIsTheBatchSolution_InAnyOrder() => Check.One(Config.QuickThrowOnFailure.WithMaxTest(50), Prop.ForAll(Gen.Choose(1, int.MaxValue - 1).ToArbitrary(), seed =>
    {
        var random = new Random(seed);
        var head = Head.WithoutPrior(Plain, D - 1, Outputs);
        var examples = Enumerable.Range(0, 40).Select(_ => Example(random)).ToArray();
        var inOrder = Learnt(head, examples);
        random.Shuffle(examples);
        var shuffled = Learnt(head, examples);
        var batch = Batch(examples, 1);

        for (var i = 0; i < batch.Length; i++)
        {
            Assert.Equal(batch[i], inOrder.Weights[i], 1e-3);
            Assert.Equal(inOrder.Weights[i], shuffled.Weights[i], 1e-3);
        }
    }));

    [Fact]
    public void PriorFade_WeighsLaterLabelsMore_AsTheBatchWould()
    {
        var fade = new PriorFadeDocument { By = 5, Labels = 10 };
        var random = new Random(3);
        var examples = Enumerable.Range(0, 30).Select(_ => Example(random)).ToArray();

        var learning = Learnt(Head.WithoutPrior(Plain with { PriorFade = fade }, D - 1, Outputs), examples);

        var batch = Batch(examples, 1, fade.WeightOf);
        for (var i = 0; i < batch.Length; i++) Assert.Equal(batch[i], learning.Weights[i], 1e-3);
    }

    [Theory]
    [InlineData(HeadForm.Full)]
    [InlineData(HeadForm.Diagonal)]
    public void Forgetting_WithDeadFeatures_StaysFiniteBoundedAndPositive(HeadForm form)
    {
        var head = Head.WithoutPrior(Plain with { Forgetting = 0.98, Form = form }, D - 1, Outputs);
        var learning = new LearningHead(head, null);
        var random = new Random(1);
        for (var t = 0; t < 30_000; t++)
        {
            var (phi, target) = Example(random);
            phi[1] = phi[3] = 0;
            learning.Learn(phi, target, Start);
        }

        Assert.All(learning.Weights, weight => Assert.True(float.IsFinite(weight)));
        Assert.Equal(0, learning.Memory.Reopened);
        if (form == HeadForm.Full)
        {
            Assert.True(Cholesky.IsPositiveDefinite(learning.Covariance, D, new double[D * D]));
            for (int i = 0, at = 0; i < D; at += D - i, i++) Assert.InRange(learning.Covariance[at], 1e-6f, 2);
        }
        else Assert.All(learning.Covariance, variance => Assert.InRange(variance, 1e-6f, 1.0001f));
    }

    [Fact]
    public void Forgetting_FollowsAChange_ThatRememberingDoesNot()
    {
        double[] errors = [.. new[] { 1, 0.9 }.Select(gamma =>
        {
            var learning = new LearningHead(Head.WithoutPrior(Plain with { Kind = HeadKind.Regression, Forgetting = gamma }, 1, 1), null);
            var residual = new float[1];
            for (var t = 0; t < 400; t++)
            {
                residual[0] = t < 300 ? 1 : -1;
                learning.Learn([1, 1], residual, Start);
            }
            return Math.Abs(residual[0]);
        })];

        Assert.InRange(errors[0], 1, 2);
        Assert.InRange(errors[1], 0, 0.01);
    }

    [Fact]
    public void StoredAndReadBetweenExamples_ItIsTheSameHead()
    {
        var head = Head.WithoutPrior(Plain with { Forgetting = 0.99, DetectChanges = true, Guards = GuardDocument.Default, PriorFade = new() { By = 3, Labels = 20 } }, D - 1, Outputs);
        var kept = new LearningHead(head, null);
        HeadState? stored = null;
        var random = new Random(5);
        for (var t = 0; t < 200; t++)
        {
            var (phi, target) = Example(random);
            if (t % 17 == 0) phi[0] *= 100;
            var again = new LearningHead(head, stored);

            Assert.Equal(kept.Learn(phi, [.. target], Start.AddSeconds(t)), again.Learn(phi, [.. target], Start.AddSeconds(t)));
            Assert.Equal(kept.Memory, again.Memory);
            stored = State(again);
        }
        Assert.Equal(kept.Weights, stored!.Weights.Weights);
        Assert.Equal(kept.Covariance, stored.Covariance);
    }

    [Fact]
    public void NoMemory_AsOldStatesHave_IsAMemoryOfNothing() => Assert.Equal(default, HeadMemory.Read([]));

    [Fact]
    public void MemoryOfAnotherVersion_IsRefused()
    {
        var bytes = default(HeadMemory).ToBytes();
        bytes[0] = 9;

        Assert.Contains("version 9", Assert.Throws<FormatException>(() => HeadMemory.Read(bytes)).Message);
    }

    [Fact]
    public void Learn_AllocatesNothing()
    {
        var learning = new LearningHead(Head.WithoutPrior(Plain with { Forgetting = 0.99, DetectChanges = true, Guards = GuardDocument.Default }, D - 1, Outputs), null);
        var (phi, target) = Example(new Random(1));
        learning.Learn(phi, target, Start);
        var before = GC.GetAllocatedBytesForCurrentThread();

        for (var i = 0; i < 100; i++) learning.Learn(phi, target, Start);

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    [Fact]
    public void ManyDimensions_TakeTheDiagonalForm_UnlessTheDocumentSaysOtherwise()
    {
        Assert.Equal(HeadForm.Full, Head.WithoutPrior(Plain, Head.MostFull - 1, 1).Form);
        Assert.Equal(HeadForm.Diagonal, Head.WithoutPrior(Plain, Head.MostFull, 1).Form);
        Assert.Equal(HeadForm.Diagonal, Head.WithoutPrior(Plain with { Form = HeadForm.Diagonal }, 3, 1).Form);
    }

    [Fact]
    public void DiagonalForm_OfFeaturesThatNeverMeet_IsTheFullOne()
    {
        LearningHead full = new(Head.WithoutPrior(Plain with { Form = HeadForm.Full }, D - 1, Outputs), null), diagonal = new(Head.WithoutPrior(Plain with { Form = HeadForm.Diagonal }, D - 1, Outputs), null);
        var random = new Random(2);
        for (var t = 0; t < 100; t++)
        {
            var (_, target) = Example(random);
            var phi = new float[D];
            phi[random.Next(D)] = random.NextSingle() * 3;
            full.Learn(phi, [.. target], Start);
            diagonal.Learn(phi, [.. target], Start);
        }

        for (var i = 0; i < full.Weights.Length; i++) Assert.Equal(full.Weights[i], diagonal.Weights[i], 1e-4);
    }

    [Fact]
    public void ChangedUser_IsSeenAndTheHeadOpenedAnew()
    {
        var head = Head.WithoutPrior(Plain with { DetectChanges = true }, D - 1, Outputs);
        var learning = new LearningHead(head, null);
        var random = new Random(4);
        int? seenAt = null;
        for (var t = 0; t < 600 && seenAt is null; t++)
        {
            var (phi, target) = Example(random);
            var label = phi[0] > 0 ? 0 : 1;
            target.AsSpan().Clear();
            target[t < 400 ? label : 1 - label] = 1;
            learning.Learn(phi, target, Start);
            if (learning.Memory.Reopened > 0) seenAt = t;
        }

        Assert.InRange(seenAt ?? 0, 400, 460);
        Assert.Equal(head.InitialCovariance.Length, learning.Covariance.Length);
        Assert.InRange(learning.Memory.Age, 0, 1);
    }

    [Fact]
    public void StationaryResiduals_RaiseAtMostOneAlarmInTenThousand()
    {
        var alarms = 0;
        for (var seed = 0; seed < 20; seed++)
        {
            var random = new Random(seed);
            ChangeDetector detector = default;
            for (var t = 0; t < 10_000; t++)
            {
                // Absolute Gaussians, log-normals and rare errors: light, heavy and binary tails.
                var normal = Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
                var residual = (seed % 3) switch { 0 => Math.Abs(normal), 1 => Math.Exp(0.5 * normal), _ => random.NextDouble() < 0.05 ? 1.3 : 0.3 + 0.05 * normal };
                if (detector.See((float)residual)) alarms++;
            }
        }

        Assert.InRange(alarms, 0, 20);
    }

    private static LearningHead Learnt(Head head, (float[] Phi, float[] Target)[] examples)
    {
        var learning = new LearningHead(head, null);
        foreach (var (phi, target) in examples) Assert.True(learning.Learn(phi, [.. target], Start).IsLearnt);
        return learning;
    }

    private static (float[] Phi, float[] Target) Example(Random random)
    {
        float[] phi = [.. Enumerable.Range(0, D - 1).Select(_ => random.NextSingle() * 2 - 1), 1];
        var target = new float[Outputs];
        target[random.Next(Outputs)] = 1;
        return (phi, target);
    }

    private static HeadState State(LearningHead learning) => new(
        new HeadWeights { FeaturesVersion = 1, PriorVersion = 0, Updates = 0, Weights = [.. learning.Weights], Offset = 0, Tag = "" }, [.. learning.Covariance]) { Memory = learning.Memory.ToBytes() };

    /// <summary>(κI + Σ w φφᵀ)⁻¹ Σ w φ targetᵀ in float64.</summary>
    private static double[] Batch((float[] Phi, float[] Target)[] examples, double strength, Func<int, double>? weight = null)
    {
        var a = new double[D * D];
        var b = new double[Outputs * D];
        for (var i = 0; i < D; i++) a[i * D + i] = strength;
        for (var n = 0; n < examples.Length; n++)
        {
            var (phi, target) = examples[n];
            for (var i = 0; i < D; i++)
            {
                for (var j = 0; j < D; j++) a[i * D + j] += (weight?.Invoke(n) ?? 1) * phi[i] * phi[j];
                for (var k = 0; k < Outputs; k++) b[k * D + i] += (weight?.Invoke(n) ?? 1) * phi[i] * target[k];
            }
        }
        var lower = Cholesky.Factor(a, D);
        for (var k = 0; k < Outputs; k++) Cholesky.Solve(lower, D, b.AsSpan(k * D, D));
        return b;
    }
}
