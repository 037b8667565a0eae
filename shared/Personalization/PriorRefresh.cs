using System.Text.Json;

namespace Skiff.Personalization;

/// <summary>
/// A new population prior from users' heads: what the next user should start from, now that there are users. Published as a new version of the prior; heads that exist keep the version they started from.
/// </summary>
public static class PriorRefresh
{
    private const double MostPull = 4;

    /// <summary>Of float32, through an inversion, as a share of the prior.</summary>
    private const double Rounding = 0.01;

    /// <summary>
    /// Each head's precision A = P⁻¹ holds the old prior κG and the user's own evidence A − κG. Evidence adds up: G' = G + Σ (A_u − κG), and the mean is where all of it balances, G' W' = G W₀ + Σ (A_u W_u − κG W₀).
    /// For heads that forget nothing that is the batch solution over the old prior's examples and all the users' together; nobody's examples are needed, only the heads. O(users · d³).
    /// </summary>
    /// <param name="prior">What the heads started from.</param>
    /// <param name="strength">κ, of the app.</param>
    /// <param name="heads">Full-form heads that started from that version of the prior.</param>
    /// <param name="fade">By what the prior and the first labels have faded in a head of an age: a faded head's A is divided by what the newest label counts, so it is multiplied back.</param>
    /// <param name="cap">The most that one user's evidence may weigh, as a part of the old prior's (by trace): one busy user is not the population.</param>
    /// <param name="left">What is left of κG in a head that forgets, which gets it back bit by bit; null where it is all there, but for the fading. Of such a head the evidence counts with the weights that it has, W_u.</param>
    /// <returns>A prior of the same shape, and how many heads it is made of: those whose A holds evidence.</returns>
    /// <remarks>Nor may one user pull further than others: ‖W_u − W₀‖ counts as <see cref="MostPull"/> times the users' median at most. The heads are gone through twice for that.</remarks>
    public static (Prior Prior, int Used) Refresh(Prior prior, double strength, IEnumerable<HeadState> heads, Func<HeadState, double>? fade = null, Func<HeadState, double[]?>? left = null, double cap = 0.1)
    {
        var pulls = heads.Select(head => Distance(head.Weights.Weights, prior.Weights)).Order().ToArray();
        var furthest = pulls.Length == 0 ? 0 : MostPull * pulls[pulls.Length / 2];
        var used = 0;
        int d = prior.Dimensions, k = prior.Outputs;
        var gram = prior.Gram.ToArray();
        var mixed = Times(gram, prior.Weights, d, k);
        var start = mixed.ToArray();
        var most = cap * Trace(gram, d);
        foreach (var head in heads)
        {
            if (head.Covariance.Length != RidgeHead.PackedLength(d) || head.Weights.Weights.Length != d * k) throw new ArgumentException("a head of another shape or form than the prior's");
            var covariance = new double[d * d];
            Cholesky.Unpack(head.Covariance, d, covariance);
            var precision = new double[d * d];
            Cholesky.Unpack(Cholesky.InvertPacked(Cholesky.Factor(covariance, d), d), d, precision);
            var whole = fade?.Invoke(head) ?? 1;
            for (var i = 0; i < precision.Length; i++) precision[i] *= whole;
            var mean = Within(furthest, head.Weights.Weights, prior.Weights);
            var b = Times(precision, mean, d, k);
            if (left?.Invoke(head) is { } rest)
            {
                for (var i = 0; i < precision.Length; i++) precision[i] -= whole * rest[i];
                b = Times(precision, mean, d, k);
            }
            else
            {
                for (var i = 0; i < precision.Length; i++) precision[i] -= strength * prior.Gram[i];
                for (var i = 0; i < b.Length; i++) b[i] -= strength * start[i];
            }
            var trace = Trace(precision, d);
            if (!(trace > 0) || !IsEvidence(precision, prior, strength)) continue;
            used++;
            var weight = Math.Min(1, most / trace);
            for (var i = 0; i < gram.Length; i++) gram[i] += weight * precision[i];
            for (var i = 0; i < mixed.Length; i++) mixed[i] += weight * b[i];
        }
        var lower = Cholesky.Factor(gram, d);
        var weights = new float[k * d];
        for (var output = 0; output < k; output++)
        {
            var column = mixed.AsSpan(output * d, d);
            Cholesky.Solve(lower, d, column);
            for (var i = 0; i < d; i++) weights[output * d + i] = (float)column[i];
        }
        return (prior.With(weights, gram), used);
    }

    /// <summary>Positive semidefinite, but for rounding.</summary>
    private static bool IsEvidence(double[] evidence, Prior prior, double strength)
    {
        var d = prior.Dimensions;
        var lifted = evidence.ToArray();
        for (var i = 0; i < lifted.Length; i++) lifted[i] += Rounding * strength * prior.Gram[i];
        try
        {
            Cholesky.Factor(lifted, d);
            return true;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    /// <summary>w, no further from its start than so.</summary>
    private static float[] Within(double furthest, float[] weights, float[] start)
    {
        var distance = Distance(weights, start);
        return distance <= furthest ? weights : [.. weights.Zip(start, (w, w0) => (float)(w0 + (w - w0) * (furthest / distance)))];
    }

    private static double Distance(float[] a, float[] b) => Math.Sqrt(a.Zip(b, (x, y) => Math.Pow((double)x - y, 2)).Sum());

    /// <summary>
    /// The same from whatever heads an app has. Those are passed over that say nothing of this prior: begun from another version or on other features, of the diagonal form, opened anew since (they began from what they said then),
    /// or with nothing learnt.
    /// </summary>
    /// <param name="head">The app's, on <paramref name="prior"/>.</param>
    /// <param name="featuresVersion">Of the feature model that the prior goes with.</param>
    /// <returns>The prior, and how many heads it is made of.</returns>
    public static (Prior Prior, int Used) Refresh(Head head, Prior prior, int featuresVersion, IEnumerable<HeadState> states, double cap)
    {
        return Refresh(prior, head.Document.PriorStrength, states.Where(Fits), Faded, head.Document.Forgetting < 1 ? state => Left(head, HeadMemory.Read(state.Memory).Age) : null, cap);

        bool Fits(HeadState state) =>
            head.Form == HeadForm.Full && state.Weights.PriorVersion == head.PriorVersion && state.Weights.FeaturesVersion == featuresVersion && state.Weights.Updates > 0
                && state.Covariance.Length == head.InitialCovariance.Length && state.Weights.Weights.Length == head.InitialWeights.Length && HeadMemory.Read(state.Memory).Reopened == 0;

        double Faded(HeadState state) => head.Document.PriorFade?.WeightOf(HeadMemory.Read(state.Memory).Age) ?? 1;
    }

    /// <summary>
    /// What of A₀ = κG is in the A of a head that forgets, beside its evidence: γ of it stays at each example, and a column of L in A₀ = LLᵀ is given back with the weight d (1 − γ), in turn (<see cref="RidgeHead.Anchor"/>).
    /// </summary>
    /// <returns>d × d by rows.</returns>
    private static double[] Left(Head head, int age)
    {
        var d = head.Dimensions;
        var gamma = head.Document.Forgetting;
        var columns = new double[d];
        var stays = 1.0;
        var at = age - 1;
        for (; at >= 0 && stays > 1e-12; at--)
        {
            columns[at % d] += stays * d * (1 - gamma);
            stays *= gamma * Math.Min(1, head.FadeOf(at));
        }
        if (at >= 0) stays = 0;
        var left = new double[d * d];
        for (var column = 0; column < d; column++)
        {
            var l = head.Anchor(column);
            // A₀ is the sum of its columns' squares.
            var weight = stays + columns[column];
            for (var i = 0; i < l.Length; i++)
            {
                for (var j = 0; j < l.Length; j++) left[(column + i) * d + column + j] += weight * l[i] * l[j];
            }
        }
        return left;
    }

    /// <summary>The prior as the document that is published.</summary>
    public static byte[] ToJson(this Prior prior)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream))
        {
            json.WriteStartObject();
            if (prior.Outputs == 1) json.WriteNumber("mu", prior.Offset);
            json.WriteStartArray("prior_mean");
            for (var i = 0; i < prior.Dimensions; i++)
            {
                json.WriteStartArray();
                for (var k = 0; k < prior.Outputs; k++) json.WriteNumberValue(prior.Weights[k * prior.Dimensions + i]);
                json.WriteEndArray();
            }
            json.WriteEndArray();
            json.WriteStartArray("prior_gram");
            for (var i = 0; i < prior.Dimensions; i++)
            {
                json.WriteStartArray();
                for (var j = 0; j < prior.Dimensions; j++) json.WriteNumberValue(prior.Gram[i * prior.Dimensions + j]);
                json.WriteEndArray();
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }
        return stream.ToArray();
    }

    /// <summary>A W of K columns, kept K × d.</summary>
    private static double[] Times(double[] matrix, float[] weights, int d, int k)
    {
        var product = new double[k * d];
        for (var output = 0; output < k; output++)
        {
            for (var i = 0; i < d; i++)
            {
                var sum = 0.0;
                for (var j = 0; j < d; j++) sum += matrix[i * d + j] * weights[output * d + j];
                product[output * d + i] = sum;
            }
        }
        return product;
    }

    private static double Trace(double[] matrix, int d) => Enumerable.Range(0, d).Sum(i => matrix[i * d + i]);
}
