using System.CommandLine;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Skiff.Models;
using Skiff.Selection;
using Skiff.Support;
using Tensor = Skiff.Models.Tensor;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// What an ensemble of the Fashion-MNIST samples gains, and what its confidence is worth. All that is fitted is fitted on the 5,000 validation images, all that is counted is counted on the 5,000 test images.
/// </summary>
internal static class Ensemble
{
    private const int Classes = 10;
    private const int Resamples = 10_000;
    private static readonly string[] Models = ["mlp", "small", "medA", "medA2", "medB", "big"];
    private static readonly string[] Alike = ["medA", "medA2", "medB"];
    private static readonly string EnsembleName = "mean of " + string.Join(" ", Alike);

    public static Command Command()
    {
        var samples = new Option<string?>("--samples") { Description = "Folder of models, images and labels, instead of infrastructure/samples/fashion", HelpName = "DIR" };
        var orders = new Option<int>("--orders") { Description = "Random orders of the test images in which weights are learnt", HelpName = "N", DefaultValueFactory = _ => 20 };
        Suite.RequirePositive(orders);
        return Suite.Create("ensemble", "Errors of combined models beside their best member's, calibration, agreement, missing and breaking members.", [samples, orders], (parsed, report) =>
        {
            var folder = parsed.GetValue(samples) ?? Path.Combine(Samples.FindRepositoryRoot(), "infrastructure", "samples", "fashion");
            var validation = Split.Load(folder, "val");
            var test = Split.Load(folder, "test");
            report.Text("# ensemble\n");
            report.Text($"- Fashion-MNIST, {validation.Labels.Length} validation images to fit on, {test.Labels.Length} test images to count on; {string.Join(", ", Models)}");
            WriteErrors(report, validation, test);
            WriteCalibration(report, validation, test);
            WriteAgreement(report, validation, test);
            WriteMissing(report, test);
            WriteLearnt(report, test, parsed.GetValue(orders));
        });
    }

    private static void WriteErrors(Report report, Split validation, Split test)
    {
        report.Heading("Errors");
        report.Table(2, ["members", "combined by", "val errors", "test errors", "beside best member", "95% interval", "McNemar: fixed / broken", "p"], Rows());

        IEnumerable<string[]> Rows()
        {
            foreach (var model in Models) yield return [model, "", $"{Errors(validation, validation.Of(model))}", $"{Errors(test, test.Of(model))}", "", "", "", ""];
            foreach (var members in new string[][] { Alike, ["medA", "medA2", "medB", "big"], ["mlp", "medA", "medA2", "medB"], ["mlp", "small", "medA", "medA2", "medB"], ["mlp", "small", "medA"], ["mlp", "small"] })
            {
                yield return Row(members, "mean", split => split.Mean(members));
                yield return Row(members, "majority", split => split.Majority(members));
                var weights = ByValidation(validation, members);
                yield return Row(members, "mean weighted by val log-odds", split => split.Weighted(members, weights));
            }
        }

        string[] Row(string[] members, string by, Func<Split, float[]> combine)
        {
            var (onValidation, onTest) = (Errors(validation, combine(validation)), Wrong(test, combine(test)));
            var best = members.Select(member => Wrong(test, test.Of(member))).MinBy(wrong => wrong.Count(isWrong => isWrong))!;
            var paired = Paired.Compare(onTest, best);
            var errors = onTest.Count(isWrong => isWrong);
            var isAlike = members == Alike && by == "mean";
            report.Add($"ensemble/{string.Join('+', members)}/{by}/errors", errors, "errors", isAlike ? Goal.AtMost(350) : null);
            report.Add($"ensemble/{string.Join('+', members)}/{by}/beside best member", errors - best.Count(isWrong => isWrong), "errors");
            return [string.Join(" ", members), by, $"{onValidation}", $"{errors}", $"{errors - best.Count(isWrong => isWrong):+0;−0;0}", $"{paired.Low:+0;−0;0} … {paired.High:+0;−0;0}", $"{paired.Fixed} / {paired.Broken}", Report.Number(paired.P, "0.0000")];
        }
    }

    private static void WriteCalibration(Report report, Split validation, Split test)
    {
        report.Heading("Calibration on test, temperature fitted on val");
        report.Text("T is the one nearest to 1 whose likelihood on val is so many standard errors worse than the best one; 1.96 is the default, 0 the best itself.\n");
        report.Table(2, ["answer", "standard errors", "T", "NLL", "ECE, 15 equal widths", "ECE, 15 equal masses"], Models.Select(model => (model, (Func<Split, float[]>)(split => split.Of(model))))
            .Append((EnsembleName, split => split.Mean(Alike)))
            .SelectMany(answer =>
            {
                var (name, combine) = answer;
                var plain = combine(test);
                var onValidation = combine(validation);
                var temperature = Temperature.Fit(onValidation, validation.Labels);
                var best = Temperature.Fit(onValidation, validation.Labels, standardErrors: 0);
                var one = Temperature.Fit(onValidation, validation.Labels, standardErrors: 1);
                var (scaled, byOne, byBest) = (plain.ToArray(), plain.ToArray(), plain.ToArray());
                Temperature.Apply(scaled, Classes, temperature);
                Temperature.Apply(byOne, Classes, one);
                Temperature.Apply(byBest, Classes, best);

                var isEnsemble = name == EnsembleName;
                report.Add($"ensemble/{name}/temperature", temperature, "");
                report.Add($"ensemble/{name}/NLL scaled ÷ plain", Calibration.NegativeLogLikelihood(scaled, test.Labels) / Calibration.NegativeLogLikelihood(plain, test.Labels), "ratio", isEnsemble ? Goal.AtMost(1) : null);
                report.Add($"ensemble/{name}/ECE scaled", Error(scaled, equalMass: false), "share", isEnsemble ? Goal.AtMost(0.0125) : null);
                return new[] { Row(name, "not scaled", 1, plain), Row("", "1.96", temperature, scaled), Row("", "1", one, byOne), Row("", "0", best, byBest) };
            }));

        string[] Row(string name, string scaled, double temperature, float[] probabilities) =>
        [
            name, scaled, Report.Number(temperature, "0.000"), Report.Number(Calibration.NegativeLogLikelihood(probabilities, test.Labels), "0.0000"),
            Report.Number(Error(probabilities, equalMass: false), "0.00%"), Report.Number(Error(probabilities, equalMass: true), "0.00%"),
        ];

        double Error(float[] probabilities, bool equalMass)
        {
            var (confidences, correct) = Calibration.TopLabel(probabilities, test.Labels);
            return Calibration.ExpectedError(equalMass ? Calibration.EqualMass(confidences, correct) : Calibration.EqualWidth(confidences, correct));
        }
    }

    private static void WriteAgreement(Report report, Split validation, Split test)
    {
        string[] members = ["mlp", "small", .. Alike];
        foreach (var chosen in new[] { Alike, members })
        {
            var (scores, correct) = Agreements(validation, chosen);
            var map = ConfidenceMap.Fit(scores, correct);
            var (testScores, testCorrect) = Agreements(test, chosen);
            report.Heading($"Agreement of {string.Join(" ", chosen)} on the label of their mean, as confidence");
            report.Text($"Fitted on val: [{string.Join(", ", map.ToNumbers().Select(number => Report.Number(number, "0.######")))}]\n");
            report.Table(1, ["agree", "test images", "confidence", "accuracy", "± 1.96 standard errors"], testScores.Distinct().Order().Select(score =>
            {
                var at = Enumerable.Range(0, testScores.Length).Where(i => testScores[i] == score).ToArray();
                var accuracy = at.Count(i => testCorrect[i]) / (double)at.Length;
                return (string[])[$"{score * chosen.Length:0} of {chosen.Length}", $"{at.Length}", Report.Number(map.Chance(score), "0.000"), Report.Number(accuracy, "0.000"), Report.Number(1.96 * Math.Sqrt(accuracy * (1 - accuracy) / at.Length), "0.000")];
            }));
            var error = Calibration.ExpectedError(Calibration.EqualMass([.. testScores.Select(score => (float)map.Chance(score))], testCorrect));
            report.Text($"\nECE of this confidence on test {Report.Number(error, "0.00%")}; of the share that agrees, taken for a probability, {Report.Number(Calibration.ExpectedError(Calibration.EqualMass([.. testScores.Select(score => (float)score)], testCorrect)), "0.00%")}");
            report.Add($"ensemble/{string.Join('+', chosen)}/agreement/ECE", error, "share");
        }
    }

    private static (double[] Scores, bool[] Correct) Agreements(Split split, string[] members)
    {
        var mean = split.Mean(members);
        var (scores, correct) = (new double[split.Labels.Length], new bool[split.Labels.Length]);
        for (var i = 0; i < scores.Length; i++)
        {
            var label = TensorPrimitives.IndexOfMax<float>(mean.AsSpan(i * Classes, Classes));
            scores[i] = Combine.Agreement(split.Gather(members, i), Classes, Combine.Everyone(members.Length), label);
            correct[i] = label == split.Labels[i];
        }
        return (scores, correct);
    }

    private static void WriteMissing(Report report, Split test)
    {
        report.Heading($"{string.Join(" ", Alike)} with members missing, test errors");
        report.Table(1, ["missing", "mean, its running mean instead", "mean of the others", "majority"], new[] { "" }.Concat(Alike).Select(missing =>
        {
            var means = new MemberMeans(Alike.Length, Classes);
            var present = Combine.Everyone(Alike.Length);
            if (missing.Length > 0) present &= ~(1UL << Array.IndexOf(Alike, missing));
            var (filled, majority) = (new float[test.Labels.Length * Classes], 0);
            var shares = new float[Classes];
            for (var m = 0; m < Alike.Length; m++) means.Observe(m, test.Of(Alike[m]));
            for (var i = 0; i < test.Labels.Length; i++)
            {
                var members = test.Gather(Alike, i);
                means.FillMissing(members, present);
                Combine.Mean(members, filled.AsSpan(i * Classes, Classes));
                if (Combine.Majority(members, [], present, shares) != test.Labels[i]) majority++;
            }
            string[] others = [.. Alike.Where(member => member != missing)];
            return (string[])[missing.Length > 0 ? missing : "none", $"{Errors(test, filled)}", $"{Errors(test, test.Mean(others))}", $"{majority}"];
        }));
    }

    /// <summary>The truth comes after each answer; halfway some members start to answer the class after the one they mean.</summary>
    private static void WriteLearnt(Report report, Split test, int orders)
    {
        report.Heading($"Weights learnt online, {orders} orders of the test images, errors ± 1.96 standard errors");
        Func<Split, int[], int, int>[] ways =
        [
            (split, order, broken) => Stream(split, order, broken, null, false),
            (split, order, broken) => Stream(split, order, broken, new Exp4(), false),
            (split, order, broken) => Stream(split, order, broken, new Exp4(), true),
        ];
        string[] names = ["mean, nothing learnt", "Exp4, each member's own errors", "Exp4, slope of the mixture's error"];
        var columns = new[] { ("nothing breaks", 0), ("medA breaks halfway", 1), ("medA and medA2 break halfway", 2) };
        report.Table(1, ["weights", .. columns.Select(column => column.Item1)], names.Select((name, way) => (string[])
        [
            name,
            .. columns.Select(column =>
            {
                var errors = Enumerable.Range(0, orders).AsParallel().AsOrdered().Select(seed =>
                {
                    var order = Enumerable.Range(0, test.Labels.Length).ToArray();
                    new Random(seed).Shuffle(order);
                    return (double)ways[way](test, order, column.Item2);
                }).ToArray();
                var mean = errors.Average();
                report.Add($"ensemble/learnt/{name}/{column.Item1}/errors", mean, "errors");
                var deviation = Math.Sqrt(errors.Sum(error => (error - mean) * (error - mean)) / Math.Max(1, orders - 1));
                return $"{Report.Number(mean, "0.0")} ± {Report.Number(1.96 * deviation / Math.Sqrt(orders), "0.0")}";
            }),
        ]));
    }

    /// <param name="broken">How many of the members break, the first ones.</param>
    private static int Stream(Split split, int[] order, int broken, Exp4? policy, bool mixture)
    {
        var state = (policy ?? new Exp4()).Start(Alike.Length);
        var errors = 0;
        Span<double> weights = stackalloc double[Alike.Length], losses = stackalloc double[Alike.Length];
        Span<float> combined = stackalloc float[Classes];
        weights.Fill(1);
        for (var t = 0; t < order.Length; t++)
        {
            var label = split.Labels[order[t]];
            var members = split.Gather(Alike, order[t]);
            for (var m = 0; m < broken && t >= order.Length / 2; m++)
            {
                var said = members.AsSpan(m * Classes, Classes);
                var last = said[^1];
                said[..^1].CopyTo(said[1..]);
                said[0] = last;
            }
            policy?.Weights(state, weights);
            Combine.WeightedMean(members, weights, combined);
            if (TensorPrimitives.IndexOfMax<float>(combined) != label) errors++;
            if (policy is null) continue;
            if (mixture) Combine.MixtureLosses(members, weights, Combine.Everyone(Alike.Length), label, combined, losses);
            else
            {
                for (var m = 0; m < losses.Length; m++) losses[m] = TensorPrimitives.IndexOfMax<float>(members.AsSpan(m * Classes, Classes)) == label ? 0 : 1;
            }
            policy.LearnAll(state, losses);
        }
        return errors;
    }

    /// <summary>ln((1 − e)/e) of each member's error rate on val: what independent voters should count (Nitzan and Paroush 1982).</summary>
    private static double[] ByValidation(Split validation, string[] members) =>
        [.. members.Select(member => Errors(validation, validation.Of(member)) / (double)validation.Labels.Length).Select(rate => Math.Log((1 - rate) / rate))];

    private static int Errors(Split split, float[] probabilities) => Wrong(split, probabilities).Count(isWrong => isWrong);

    private static bool[] Wrong(Split split, float[] probabilities) => [.. Calibration.TopLabel(probabilities, split.Labels).Correct.Select(isRight => !isRight)];

    /// <summary>Images, labels and what each model says of them.</summary>
    internal sealed class Split
    {
        private readonly Dictionary<string, float[]> _probabilities = [];

        public required int[] Labels { get; init; }

        public static Split Load(string folder, string name)
        {
            try
            {
                var images = Idx.Read(Path.Combine(folder, $"{name}-images-idx3-ubyte.gz"));
                var labels = Idx.Read(Path.Combine(folder, $"{name}-labels-idx1-ubyte.gz"));
                var split = new Split { Labels = [.. labels.Values.Select(label => (int)label)] };
                foreach (var model in Models) split._probabilities[model] = Run(Path.Combine(folder, $"fm_{model}.onnx"), images);
                return split;
            }
            catch (IOException e)
            {
                throw new BenchmarkException(e.Message);
            }
        }

        /// <summary>N × C probabilities of one model.</summary>
        public float[] Of(string model) => _probabilities[model];

        /// <summary>M × C: what the members say of one image.</summary>
        public float[] Gather(string[] members, int image)
        {
            var gathered = new float[members.Length * Classes];
            for (var m = 0; m < members.Length; m++) _probabilities[members[m]].AsSpan(image * Classes, Classes).CopyTo(gathered.AsSpan(m * Classes));
            return gathered;
        }

        public float[] Mean(string[] members) => Each(members, (given, combined) => Combine.Mean(given, combined));

        public float[] Weighted(string[] members, double[] weights) => Each(members, (given, combined) => Combine.WeightedMean(given, weights, combined));

        /// <summary>1 for the label that wins.</summary>
        public float[] Majority(string[] members) => Each(members, (given, combined) =>
        {
            var label = Combine.Majority(given, [], Combine.Everyone(members.Length), combined);
            combined.Clear();
            combined[label] = 1;
        });

        private float[] Each(string[] members, Action<float[], Span<float>> combine)
        {
            var combined = new float[Labels.Length * Classes];
            for (var i = 0; i < Labels.Length; i++) combine(Gather(members, i), combined.AsSpan(i * Classes, Classes));
            return combined;
        }

        private static float[] Run(string path, Idx images)
        {
            const int batch = 250;
            var bytes = File.ReadAllBytes(path);
            var session = ModelSession.Load(bytes, OnnxFile.Inspect(bytes, ModelLimits.Default));
            var probabilities = new float[images.Count * Classes];
            var buffer = new TensorBuffer();
            for (var first = 0; first < images.Count; first += batch)
            {
                var rows = Math.Min(batch, images.Count - first);
                buffer.Clear();
                var input = new Tensor { Name = "image", Type = DataType.Fp32, Shape = [rows, 1, 28, 28], Length = rows * Samples.Pixels * sizeof(float) };
                input.Offset = buffer.Allocate(input.Length);
                var pixels = MemoryMarshal.Cast<byte, float>(buffer.Span(input.Offset, input.Length));
                for (var i = 0; i < pixels.Length; i++) pixels[i] = images.Values[first * Samples.Pixels + i] / 255f;
                using var outputs = session.Run(buffer, [input]);
                for (var i = 0; i < rows; i++) TensorPrimitives.SoftMax(outputs.Floats(0).Slice(i * Classes, Classes), probabilities.AsSpan((first + i) * Classes, Classes));
            }
            session.Leave();
            return probabilities;
        }
    }

    /// <summary>Two answers to the same images: how many only the first gets right or wrong, the exact two-sided sign test (McNemar), and a paired bootstrap interval of the difference in errors.</summary>
    private sealed record Paired(int Fixed, int Broken, double P, double Low, double High)
    {
        public static Paired Compare(bool[] wrong, bool[] beside)
        {
            var differences = wrong.Zip(beside, (ours, theirs) => (ours ? 1 : 0) - (theirs ? 1 : 0)).ToArray();
            var (fixed_, broken) = (differences.Count(d => d < 0), differences.Count(d => d > 0));
            // Pr(at most the smaller number of heads in fair tosses), twice.
            double term = Math.Pow(0.5, fixed_ + broken), tail = 0;
            for (var heads = 0; heads <= Math.Min(fixed_, broken); heads++)
            {
                tail += term;
                term *= (fixed_ + broken - heads) / (heads + 1.0);
            }
            var random = new Random(1);
            var resampled = new int[Resamples];
            for (var r = 0; r < Resamples; r++)
            {
                for (var i = 0; i < differences.Length; i++) resampled[r] += differences[random.Next(differences.Length)];
            }
            Array.Sort(resampled);
            return new Paired(fixed_, broken, Math.Min(1, 2 * tail), resampled[Resamples / 40], resampled[^(Resamples / 40)]);
        }
    }
}
