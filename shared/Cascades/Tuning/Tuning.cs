namespace Skiff.Cascades.Tuning;

public sealed record TuningOptions
{
    /// <summary>How much accuracy may be lost against the heaviest stage: a share, not percentage points.</summary>
    public required double Epsilon { get; init; }

    /// <summary>With which the loss stays below it, one-sided.</summary>
    public double Confidence { get; init; } = 0.95;

    /// <summary>What the gates look at.</summary>
    public GateOn On { get; init; } = GateOn.Margin;

    /// <summary>Whether gates see tempered probabilities, for stages whose likelihood gains from it.</summary>
    public bool Calibrate { get; init; }

    /// <summary>Share of the rows that fit temperatures and learned gates, and certify nothing; all rows certify where nothing is fitted.</summary>
    public double FitShare { get; init; } = 0.3;

    /// <summary>Chooses the rows that fit.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>Where nothing else is said; null lets every path of <see cref="ThresholdPath.Through"/> take part.</summary>
    public IReadOnlyList<ThresholdPath>? Paths { get; init; }

    public bool Fits => Calibrate || On == GateOn.Learned;

    /// <exception cref="ArgumentException">A value is out of its range.</exception>
    public void Validate()
    {
        if (!(Epsilon is > 0 and < 1)) throw new ArgumentException($"epsilon is {Epsilon * 100} percentage points: it takes a number above 0 and below 100");
        if (!(Confidence is >= 0.5 and <= 0.9999)) throw new ArgumentException($"confidence is {Confidence}: it takes a number from 0.5 to 0.9999");
        if (Calibrate && On == GateOn.Learned) throw new ArgumentException("a learned gate is calibrated as it is: it takes no temperature");
        if (!(FitShare is > 0 and < 1)) throw new ArgumentException($"the share of rows to fit on is {FitShare}: it takes a number above 0 and below 1");
    }
}

/// <summary>One vector of thresholds on the rows that certify.</summary>
/// <param name="Path">Which of the paths it lies on.</param>
/// <param name="Microseconds">Mean time of the runs that a row takes, one row at a time.</param>
/// <param name="Reach">For each stage of the path, the share of the rows that get there.</param>
/// <param name="PValue">Of "the drop is epsilon or more"; null where the test had ended before.</param>
public sealed record TuningPoint(ThresholdPath Path, double[] Thresholds, PairedDrop Drop, double Accuracy, double Microseconds, double[] Reach, double? PValue)
{
    /// <summary>Whether the drop is certified to stay below epsilon.</summary>
    public bool IsCertified { get; init; }
}

/// <summary>What a tuning found. All its certified points hold at once with the confidence asked for.</summary>
public sealed record Tuning
{
    public required TuningOptions Options { get; init; }

    /// <summary>The cheapest certified point that is cheaper than the heaviest stage alone; null: call that one directly.</summary>
    public required TuningPoint? Chosen { get; init; }

    /// <summary>Every point looked at, path by path, from safest to boldest.</summary>
    public required IReadOnlyList<TuningPoint> Points { get; init; }

    /// <summary>For each stage but the heaviest its gate, without its threshold.</summary>
    public required IReadOnlyList<Gate> Gates { get; init; }

    /// <summary>How many rows certified, and how many fitted.</summary>
    public required int Rows { get; init; }

    public required int FittedOn { get; init; }

    /// <summary>Of each stage alone, on the rows that certified.</summary>
    public required IReadOnlyList<double> Accuracies { get; init; }

    /// <summary>Of a row that only this stage answers, for each stage: with the runs of what it continues from.</summary>
    public required IReadOnlyList<double> Microseconds { get; init; }

    /// <summary>The stages that run: those that answer at the chosen point, and those that they continue from; ascending.</summary>
    public required IReadOnlyList<int> Needed { get; init; }

    public double Heaviest => Microseconds[^1];

    /// <summary>The share of the heaviest stage's run time that the chosen point saves.</summary>
    public double Saved => Chosen is null ? 0 : 1 - Chosen.Microseconds / Heaviest;

    public int Paths => Points.Select(point => point.Path).Distinct().Count();

    /// <summary>The stages to publish: those of the chosen point with their gates, or the heaviest alone; and without a gate those that only compute what these continue from.</summary>
    /// <returns>The index of each stage in the app, and its gate.</returns>
    public IReadOnlyList<(int Stage, Gate? Gate)> Cascade => [.. Needed.Select(stage => (stage, Threshold(stage) is { } at ? Gates[stage] with { At = at } : null))];

    private double? Threshold(int stage)
    {
        if (Chosen is null) return null;
        for (var k = 0; k < Chosen.Thresholds.Length; k++)
        {
            if (Chosen.Path.Stages[k] == stage) return Chosen.Thresholds[k];
        }
        return null;
    }
}
