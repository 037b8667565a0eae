using Skiff.Batching;
using Skiff.Routing;

namespace Skiff.Unit.Routing;

/// <summary>Rows of several callers as one request to the tier. A row is a byte; a model answers it doubled.</summary>
public sealed class TierLineTests
{
    private readonly ManualTime _time = new();
    private readonly List<Call> _calls = [];
    private int _places = 1;

    [Fact]
    public async Task WhileThereIsRoom_EachIsSentAsItComes_AndWhatComesMeanwhileGoesTogether()
    {
        var line = Line();
        var first = line.RunAsync(Job(1));
        var others = new[] { line.RunAsync(Job(2)), line.RunAsync(Job(3, 4)), line.RunAsync(Job(5)) };
        Assert.Equal([[1]], Sent());

        _calls[0].Answer();
        Assert.Equal(new[] { 2f }, (await first).Scores);
        Assert.Equal([[1], [2, 3, 4, 5]], Sent());
        _calls[1].Answer();
        // The first answer of several is compared with what two of them get alone, and these are their answers.
        Assert.Equal([[1], [2, 3, 4, 5], [2], [3, 4]], Sent());
        foreach (var alone in _calls[2..]) alone.Answer();
        Assert.Equal([[4f], [6f, 8f], [10f]], (await Task.WhenAll(others)).Select(answer => answer.Scores));

        // Then it is known.
        var more = new[] { line.RunAsync(Job(6)), line.RunAsync(Job(7)), line.RunAsync(Job(8)) };
        _calls[4].Answer();
        _calls[5].Answer(share: TimeSpan.FromMilliseconds(4));
        var answers = await Task.WhenAll(more);
        Assert.Equal([[12f], [14f], [16f]], answers.Select(answer => answer.Scores));
        Assert.Equal(TimeSpan.FromMilliseconds(2), answers[1].Share);
        Assert.Equal(6, _calls.Count);
    }

    [Fact]
    public async Task ModelWhoseRowsDependOnEachOther_IsAskedForEachAlone_UntilAnotherVersionIsThere()
    {
        var line = Line();
        var first = line.RunAsync(Job(1));
        var others = new[] { line.RunAsync(Job(2)), line.RunAsync(Job(3)) };
        _calls[0].Answer();
        _calls[1].Answer(plus: 1); // not what they get alone
        _calls[2].Answer();
        _calls[3].Answer();
        Assert.Equal([[4f], [6f]], (await Task.WhenAll(others)).Select(answer => answer.Scores));
        await first;

        var later = new[] { line.RunAsync(Job(4)), line.RunAsync(Job(5)), line.RunAsync(Job(6)) };
        Assert.Equal([[4], [5], [6]], Sent()[4..]);
        _calls[4].Answer(version: 2);
        _calls[5].Answer(version: 2);
        _calls[6].Answer(version: 2);
        await Task.WhenAll(later);
        _ = line.RunAsync(Job(7));
        _ = line.RunAsync(Job(8));
        _ = line.RunAsync(Job(9));
        _calls[7].Answer(version: 2);
        Assert.Equal([8, 9], Sent()[8]);
    }

    [Fact]
    public async Task OneThatFailsAlone_IsNoReasonToLookAgain()
    {
        var line = Line();
        _ = line.RunAsync(Job(1));
        var others = new[] { line.RunAsync(Job(2)), line.RunAsync(Job(3)), line.RunAsync(Job(4)) };
        _calls[0].Answer();
        _calls[1].Answer();
        _calls[2].Fail(Refusal.Busy);
        _calls[3].Answer();
        Assert.Equal(Refusal.Busy, (await Assert.ThrowsAsync<RequestException>(() => others[0])).Refusal);
        Assert.Equal([[6f], [8f]], (await Task.WhenAll(others[1..])).Select(answer => answer.Scores));

        var more = new[] { line.RunAsync(Job(5)), line.RunAsync(Job(6)), line.RunAsync(Job(7)) };
        _calls[4].Answer();
        _calls[5].Answer();
        await Task.WhenAll(more);
        Assert.Equal([[1], [2, 3, 4], [2], [3], [5], [6, 7]], Sent());
    }

    [Fact]
    public async Task WhereTwoSayThatRowsDepend_OrNothing_TheOthersAreAskedForAloneToo()
    {
        var line = Line();
        _ = line.RunAsync(Job(1));
        var others = new[] { line.RunAsync(Job(2)), line.RunAsync(Job(3)), line.RunAsync(Job(4)), line.RunAsync(Job(5)) };
        _calls[0].Answer();
        _calls[1].Answer(plus: 1);
        _calls[2].Fail(Refusal.Busy);
        _calls[3].Fail(Refusal.Busy);
        Assert.Equal([[4], [5]], Sent()[4..]);
        _calls[4].Answer();
        _calls[5].Answer();
        Assert.Equal([[8f], [10f]], (await Task.WhenAll(others[2..])).Select(answer => answer.Scores));

        _ = line.RunAsync(Job(6));
        _ = line.RunAsync(Job(7));
        Assert.Equal([[6], [7]], Sent()[6..]); // known from the others
    }

    [Fact]
    public void Priorities_ThenDeadlines_SayWhoGoesFirst_AndOneRequestHoldsSoMuch()
    {
        var line = Line();
        _ = line.RunAsync(Job(1));
        byte[] many = [.. Enumerable.Range(100, 60).Select(i => (byte)i)];
        _ = line.RunAsync(Job(many));
        _ = line.RunAsync(Job(5, until: 3));
        _ = line.RunAsync(Job(4, until: 2));
        _ = line.RunAsync(Job(6, until: 9, priority: Priorities.Highest));
        _ = line.RunAsync(Job(7, until: 99, priority: Priorities.Lowest));
        _ = line.RunAsync(Job(8, until: 98, priority: Priorities.Lowest));

        _calls[0].Answer();
        Assert.Equal([6, 4, 5, .. many, 8], Sent()[1]); // 64 rows
        Assert.Equal(2, _calls.Count);
    }

    [Fact]
    public async Task WhatCannotBeBackBeforeTheNearestDeadline_WaitsForTheNext_AndWhatIsOverIsNotSent()
    {
        var line = Line();
        _ = line.RunAsync(Job(1));
        var late = line.RunAsync(Job(2, until: 1));
        _ = line.RunAsync(Job(3, until: 6));
        _ = line.RunAsync(Job(4, until: 60));
        _ = line.RunAsync(Job(5, until: 60));
        _time.Advance(TimeSpan.FromSeconds(2)); // what a row takes
        _calls[0].Answer();

        Assert.Equal(Refusal.DeadlineExceeded, (await Assert.ThrowsAsync<RequestException>(() => late)).Refusal);
        Assert.Equal([3, 4], Sent()[1]); // two rows take four of the four seconds that are left
    }

    [Fact]
    public async Task RowsThatOneOfThemSpoils_AreAskedForEachAlone_AndOtherFailuresAreEverybodys()
    {
        var line = Line();
        var jobs = new[] { line.RunAsync(Job(1)), line.RunAsync(Job(2)), line.RunAsync(Job(3)) };
        _calls[0].Answer();
        _calls[1].Fail(Refusal.Invalid);
        Assert.Equal([[2], [3]], Sent()[2..]);
        _calls[2].Fail(Refusal.Invalid);
        _calls[3].Answer();
        Assert.Equal(new[] { 6f }, (await jobs[2]).Scores);
        Assert.Equal(Refusal.Invalid, (await Assert.ThrowsAsync<RequestException>(() => jobs[1])).Refusal);

        jobs = [line.RunAsync(Job(1)), line.RunAsync(Job(2)), line.RunAsync(Job(3))];
        _calls[4].Answer();
        _calls[5].Fail(Refusal.Unavailable);
        foreach (var job in jobs[1..]) Assert.Equal(Refusal.Unavailable, (await Assert.ThrowsAsync<RequestException>(() => job)).Refusal);
        Assert.Equal(6, _calls.Count);
    }

    [Fact]
    public void MoreReplicas_HaveMorePlaces()
    {
        _places = 3;
        var line = Line();
        for (byte i = 1; i <= 5; i++) _ = line.RunAsync(Job(i));
        Assert.Equal([[1], [2], [3]], Sent());
    }

    [Fact]
    public void PlacesThatGrowWhileOthersWait_AreTaken_WhenSomebodyComesAndWhenAnAnswerDoes()
    {
        var line = Line();
        byte[] many = [.. Enumerable.Range(0, 64).Select(i => (byte)i)]; // as much as one request holds
        for (var i = 0; i < 3; i++) _ = line.RunAsync(Job(many));
        Assert.Single(_calls);
        _places = 3;
        _ = line.RunAsync(Job(many));
        Assert.Equal(3, _calls.Count);

        for (var i = 0; i < 3; i++) _ = line.RunAsync(Job(many));
        Assert.Equal(3, _calls.Count);
        _places = 5;
        _calls[0].Answer();
        Assert.Equal(6, _calls.Count); // five are under way
    }

    private TierLine Line() => new(jobs =>
    {
        _calls.Add(new Call(jobs));
        return _calls[^1].Task;
    }, () => _places, _time);

    private byte[][] Sent() => [.. _calls.Select(call => call.Rows)];

    private TierJob Job(params byte[] rows) => new(rows, rows.Length, Priorities.Normal, _time.GetTimestamp() + TimeSpan.FromHours(1).Ticks, null);

    /// <param name="until">In so many seconds.</param>
    private TierJob Job(byte row, double until, int priority = Priorities.Normal) => new(new[] { row }, 1, priority, _time.GetTimestamp() + TimeSpan.FromSeconds(until).Ticks, null);

    private sealed class Call(IReadOnlyList<TierJob> jobs)
    {
        private readonly TaskCompletionSource<TierAnswer> _done = new(); // what follows has happened when an answer was given

        public byte[] Rows { get; } = [.. jobs.SelectMany(job => job.Rows.ToArray())];

        public Task<TierAnswer> Task => _done.Task;

        public void Answer(float plus = 0, int version = 1, TimeSpan share = default) => _done.SetResult(new TierAnswer([.. Rows.Select(row => 2f * row + plus)], version, TimeSpan.Zero, share));

        public void Fail(Refusal refusal) => _done.SetException(new RequestException(refusal, "it fails"));
    }
}
