using System.Buffers;
using System.Numerics.Tensors;
using Skiff.Models;

namespace Skiff.Personalization;

/// <summary>What became of one example.</summary>
/// <param name="Note">Why it was not learnt, or that it was learnt otherwise than as it came.</param>
public readonly record struct Lesson(bool IsLearnt, string? Note);

/// <summary>
/// One user's head while examples are applied to it: guards, residual, change detector, update, forgetting, in this order. What comes of a sequence of examples does not depend on where it was stored in between.
/// A <see cref="Learn"/> allocates nothing unless it has something to note; O(d²) at full form, twice that with forgetting, O(d K) at diagonal form.
/// </summary>
public sealed class LearningHead
{
    /// <summary>How often the full form is looked at for what rounding did to it.</summary>
    private const int CheckEvery = 1000;

    private readonly Head _head;
    private readonly float[] _weightsBefore;
    private readonly float[] _covarianceBefore;
    private readonly float[] _features;
    private readonly float[] _scratch;
    private readonly float _floor;
    private HeadMemory _memory;

    /// <param name="state">What was stored; null for a user who has no head yet. Its arrays are copied.</param>
    public LearningHead(Head head, HeadState? state)
    {
        _head = head;
        Weights = [.. state?.Weights.Weights ?? head.InitialWeights];
        Covariance = [.. state?.Covariance ?? head.InitialCovariance];
        _memory = HeadMemory.Read(state?.Memory);
        _weightsBefore = new float[Weights.Length];
        _covarianceBefore = new float[Covariance.Length];
        _features = new float[head.Dimensions];
        _scratch = new float[2 * head.Dimensions];
        _floor = head.Document.Kind == Apps.HeadKind.Classes ? 2 : 0;
    }

    /// <summary>w, K × d.</summary>
    public float[] Weights { get; }

    /// <summary>P: packed, or its diagonal.</summary>
    public float[] Covariance { get; }

    public HeadMemory Memory => _memory;

    /// <summary>Whether the arrays are of the form that the app's head has now.</summary>
    public bool Fits => Weights.Length == _head.InitialWeights.Length && Covariance.Length == _head.InitialCovariance.Length;

    /// <param name="features">φ, d, finite.</param>
    /// <param name="residuals">K; target − base on entry, what was left of it before the update on return.</param>
    /// <param name="at">When the feedback came; the guard's hours go by it.</param>
    /// <param name="isReleased">Somebody has looked at it: the guards keep it out no more.</param>
    public Lesson Learn(ReadOnlySpan<float> features, Span<float> residuals, DateTimeOffset at, bool isReleased = false)
    {
        var document = _head.Document;
        var guards = document.Guards;
        var guard = _memory.Guard;
        var clip = Judgement.Accepted;
        if (guards.IsOn)
        {
            var admitted = Guard.Admit(guards, ref guard, at);
            _memory.Guard = guard;
            if (admitted.Verdict == Verdict.Quarantine && !isReleased) return new Lesson(false, admitted.Reason);
            clip = Guard.Measure(guards, ref guard, TensorPrimitives.Norm(features), _head.TypicalNorm);
        }
        TensorPrimitives.Multiply(features, clip.Scale, _features);

        if (guards.IsOn || document.DetectChanges)
        {
            var squared = Surprise(residuals);
            // Every example that was admitted is evidence of a change, the gated ones too: they are what a change looks like.
            var detector = _memory.Detector;
            var hasChanged = document.DetectChanges && float.IsFinite(squared) && detector.See(MathF.Sqrt(squared));
            _memory.Detector = detector;
            if (hasChanged) Reopen();
            if (guards.IsOn)
            {
                var gate = Guard.Gate(guards, ref guard, squared, _floor);
                if (float.IsFinite(guard.Scale) && float.IsFinite(guard.LogNorm)) _memory.Guard = guard;
                if (gate.Verdict == Verdict.Quarantine && !hasChanged && !isReleased) return new Lesson(false, gate.Reason);
            }
        }

        Weights.CopyTo(_weightsBefore, 0);
        Covariance.CopyTo(_covarianceBefore, 0);
        if (_head.Form == HeadForm.Full) LearnFull(residuals);
        else LearnDiagonal(residuals);
        if (((ReadOnlySpan<float>)Weights).ContainsNotFinite() || ((ReadOnlySpan<float>)Covariance).ContainsNotFinite())
        {
            // Finite numbers can be too large to calculate with; a head that isn't finite would answer nothing, and learn nothing, ever again.
            _weightsBefore.CopyTo(Weights, 0);
            _covarianceBefore.CopyTo(Covariance, 0);
            return new Lesson(false, AcceptedFeedback.Guarded + "numbers too large to learn from");
        }
        _memory.Age = _memory.Age == int.MaxValue ? _memory.Age : _memory.Age + 1;
        if (_head.Form == HeadForm.Full && _memory.Age % CheckEvery == 0) Mend();
        return new Lesson(true, clip.Reason);
    }

    private void LearnFull(Span<float> residuals)
    {
        RidgeHead.Update(Weights, Covariance, _features, residuals, _scratch);
        if (_head.FadeOf(_memory.Age) is < 1 and var fade) RidgeHead.Fade(Covariance, fade);
        if (_head.Document.Forgetting is < 1 and var gamma)
        {
            RidgeHead.Fade(Covariance, gamma);
            var d = _head.Dimensions;
            var column = _memory.Age % d;
            RidgeHead.Anchor(Covariance, _head.Anchor(column), column, (float)(d * (1 - gamma)), _scratch);
        }
    }

    private void LearnDiagonal(Span<float> residuals)
    {
        DiagonalHead.Update(Weights, Covariance, _features, residuals, _scratch);
        if (_head.FadeOf(_memory.Age) is < 1 and var fade) RidgeHead.Fade(Covariance, fade);
        if (_head.Document.Forgetting is < 1 and var gamma) DiagonalHead.Forget(Covariance, _head.InitialCovariance, gamma);
    }

    /// <summary>|e|²/(1 + φᵀPφ): how far the head is from the target, in units of the noise's variance, were there as much as 1 of it.</summary>
    private float Surprise(ReadOnlySpan<float> targets)
    {
        var d = _head.Dimensions;
        var sum = 0f;
        for (var k = 0; k < targets.Length; k++)
        {
            var e = targets[k] - TensorPrimitives.Dot<float>(Weights.AsSpan(k * d, d), _features);
            sum += e * e;
        }
        var variance = _head.Form == HeadForm.Full ? RidgeHead.Variance(Covariance, _features, _scratch) : DiagonalHead.Variance(Covariance, _features, _scratch);
        return sum / (1 + MathF.Max(0, variance));
    }

    /// <summary>The user is as unknown as at first; what the head says stays, as the best guess.</summary>
    private void Reopen()
    {
        _head.InitialCovariance.CopyTo(Covariance, 0);
        _memory.Age = 0;
        _memory.Reopened++;
    }

    /// <summary>
    /// Where rounding has taken definiteness from P: P ← P + τ I with the least τ, in powers of ten of the mean variance, that gives it back. That makes the head a little less sure of everything, never surer;
    /// one that a hundredth of its variance does not mend is opened anew.
    /// </summary>
    private void Mend()
    {
        var d = _head.Dimensions;
        var scratch = ArrayPool<double>.Shared.Rent(d * d);
        var mean = Enumerable.Range(0, d).Sum(i => MathF.Max(0, Covariance[DiagonalAt(i, d)])) / d;
        for (var step = 1e-7f; !Cholesky.IsPositiveDefinite(Covariance, d, scratch); step *= 10)
        {
            if (step > 1e-2f)
            {
                Reopen();
                break;
            }
            for (var i = 0; i < d; i++) Covariance[DiagonalAt(i, d)] += step * mean;
        }
        ArrayPool<double>.Shared.Return(scratch);

        static int DiagonalAt(int i, int d) => RidgeHead.PackedLength(d) - RidgeHead.PackedLength(d - i);
    }
}
