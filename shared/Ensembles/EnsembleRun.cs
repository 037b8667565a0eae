namespace Skiff.Ensembles;

/// <summary>A member as it ran for one request: which version, for how long.</summary>
public readonly record struct MemberRun(int Member, int Version, TimeSpan Duration);

/// <summary>
/// One request's members while they run. Each brings its answer when it has one; when all have, or when it is closed, what is there is there, and what comes later changes nothing.
/// </summary>
public sealed class EnsembleRun
{
    private readonly Lock _lock = new(); // guards the rest until it is closed; from then on nothing changes
    private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<MemberRun> _runs;
    private int _open;
    private volatile bool _isClosed;

    /// <param name="members">M.</param>
    /// <param name="chosen">The one that runs; -1 for all.</param>
    internal EnsembleRun(int members, int chosen)
    {
        Chosen = chosen;
        Answers = new float[members][];
        Missing = new string?[members];
        _open = chosen < 0 ? members : 1;
        _runs = new List<MemberRun>(_open);
        if (chosen < 0) Array.Fill(Missing, "deadline");
        else Missing[chosen] = "deadline";
    }

    /// <summary>The one that ran; -1 for all.</summary>
    public int Chosen { get; }

    /// <summary>Of each member N × C probabilities; null for one that is missing or was not asked.</summary>
    public float[]?[] Answers { get; }

    /// <summary>Why a member that was asked has no answer; null for one that has, or was not asked.</summary>
    public string?[] Missing { get; }

    public IReadOnlyList<MemberRun> Runs => _runs;

    /// <summary>What kept the first member from running that could not.</summary>
    public Exception? Failure { get; private set; }

    internal Task Done => _done.Task;

    internal bool IsClosed => _isClosed;

    /// <param name="answers">N × C; handed over.</param>
    internal void Arrive(int member, float[] answers, int version, TimeSpan duration)
    {
        lock (_lock)
        {
            _open--;
            if (_isClosed) return;
            (Answers[member], Missing[member]) = (answers, null);
            _runs.Add(new MemberRun(member, version, duration));
            if (_open == 0) _done.TrySetResult();
        }
    }

    internal void Miss(int member, string reason, Exception failure)
    {
        lock (_lock)
        {
            _open--;
            if (_isClosed) return;
            Missing[member] = reason;
            Failure ??= failure;
            if (_open == 0) _done.TrySetResult();
        }
    }

    /// <summary>Takes nothing more.</summary>
    /// <returns>Whether a member is still at it.</returns>
    internal bool Close()
    {
        lock (_lock)
        {
            _isClosed = true;
            _done.TrySetResult();
            return _open > 0;
        }
    }
}
