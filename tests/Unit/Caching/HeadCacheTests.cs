using Skiff.Apps;
using Skiff.Caching;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Store;
using Skiff.Unit.Personalization;

namespace Skiff.Unit.Caching;

public sealed class HeadCacheTests
{
    private static readonly HeadCacheDocument TwoSeconds = new(true, 2000);

    private readonly TwoClocks _time = new();
    private readonly OneTable _store = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task HeadIsKept_UntilItsAgeIsReached_ThenItsVersionIsChecked()
    {
        var cache = new HeadCache(_store, 1 << 20, _time);
        _store.Learn("ann");

        Assert.Equal((1, HeadSource.Store), await ReadAsync(cache, "ann"));
        _time.Advance(TimeSpan.FromSeconds(1.9));
        Assert.Equal((1, HeadSource.Kept), await ReadAsync(cache, "ann"));
        _time.Advance(TimeSpan.FromSeconds(0.1));
        Assert.Equal((1, HeadSource.Checked), await ReadAsync(cache, "ann"));
        // The check has made it new again.
        _time.Advance(TimeSpan.FromSeconds(1.9));
        Assert.Equal((1, HeadSource.Kept), await ReadAsync(cache, "ann"));
        Assert.Equal((1, 1), (_store.Reads, _store.Checks));
    }

    [Fact]
    public async Task WhatAnotherProcessLearnt_IsSeenWithinTheAge()
    {
        var cache = new HeadCache(_store, 1 << 20, _time);
        _store.Learn("ann");
        await ReadAsync(cache, "ann");

        _store.Learn("ann");
        Assert.Equal((1, HeadSource.Kept), await ReadAsync(cache, "ann"));
        _time.Advance(TimeSpan.FromSeconds(2));
        Assert.Equal((2, HeadSource.Store), await ReadAsync(cache, "ann"));
        _store.Erase("ann");
        _time.Advance(TimeSpan.FromSeconds(2));
        Assert.Equal((0, HeadSource.Store), await ReadAsync(cache, "ann"));
    }

    [Fact]
    public async Task StoreThatLags_IsAskedForTheLatest_AfterAChangeOfItsOwnAndOnDemand()
    {
        var cache = new HeadCache(_store, 1 << 20, _time);
        _store.Learn("ann");
        _store.Learn("ben");
        await ReadAsync(cache, "ann");
        await ReadAsync(cache, "ben");

        _store.Lags = true;
        _store.Learn("ann");
        cache.Changed(User("ann"));
        _time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Equal((2, HeadSource.Store), await ReadAsync(cache, "ann"));
        Assert.Equal((2, HeadSource.Kept), await ReadAsync(cache, "ann"));
        _store.Erase("ann");
        cache.Changed(User("ann"));
        _time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Equal((0, HeadSource.Store), await ReadAsync(cache, "ann"));

        // What others learn is the ordinary reads' to find, unless somebody wants it now.
        _store.Learn("ben");
        _time.Advance(TimeSpan.FromSeconds(2));
        Assert.Equal((1, HeadSource.Checked), await ReadAsync(cache, "ben"));
        Assert.Equal((2, HeadSource.Store), await ReadAsync(cache, "ben", isFresh: true));
        Assert.Equal((2, HeadSource.Kept), await ReadAsync(cache, "ben"));
    }

    [Fact]
    public async Task UserWithoutAHead_IsKeptAsSuch()
    {
        var cache = new HeadCache(_store, 1 << 20, _time);

        Assert.Equal((0, HeadSource.Store), await ReadAsync(cache, "nobody"));
        Assert.Equal((0, HeadSource.Kept), await ReadAsync(cache, "nobody"));
        Assert.Equal(1, _store.Reads);
    }

    [Fact]
    public async Task EitherClockEndsAHeadsTime()
    {
        var cache = new HeadCache(_store, 1 << 20, _time);
        _store.Learn("ann");
        await ReadAsync(cache, "ann");

        _time.AdvanceDate(TimeSpan.FromSeconds(3));
        Assert.Equal(HeadSource.Checked, (await ReadAsync(cache, "ann")).From);
        // A date that is set back makes nothing young.
        _time.AdvanceDate(TimeSpan.FromHours(-1));
        _time.AdvanceStamp(TimeSpan.FromSeconds(3));
        Assert.Equal(HeadSource.Checked, (await ReadAsync(cache, "ann")).From);
    }

    [Fact]
    public async Task WhatIsLearntHere_IsSeenAtOnce_AndWhoeverAsksForFreshIsAnsweredSo()
    {
        var cache = new HeadCache(_store, 1 << 20, _time);
        _store.Learn("ann");
        await ReadAsync(cache, "ann");
        Assert.False(cache.HasChanged(User("ann")));

        _time.Advance(TimeSpan.FromMilliseconds(1));
        _store.Learn("ann");
        cache.Changed(User("ann"));
        Assert.True(cache.HasChanged(User("ann")));
        _time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Equal((2, HeadSource.Store), await ReadAsync(cache, "ann"));
        Assert.Equal((2, HeadSource.Kept), await ReadAsync(cache, "ann"));
        Assert.Equal((2, HeadSource.Checked), await ReadAsync(cache, "ann", isFresh: true));

        _time.Advance(HeadCacheDocument.LongestAge + TimeSpan.FromMilliseconds(1));
        Assert.False(cache.HasChanged(User("ann")));
    }

    [Fact]
    public async Task ReadThatBeganBeforeACommit_IsNotAnsweredWithAfterIt()
    {
        var cache = new HeadCache(_store, 1 << 20, _time);
        _store.Learn("ann");
        _store.Hold();
        var before = ReadAsync(cache, "ann");

        // Committed and told while the answer from before is still on its way.
        _time.Advance(TimeSpan.FromMilliseconds(1));
        _store.Learn("ann");
        cache.Changed(User("ann"));
        _store.LetGo();

        Assert.Equal((1, HeadSource.Store), await before);
        _time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Equal((2, HeadSource.Store), await ReadAsync(cache, "ann"));
    }

    [Fact]
    public async Task OlderAnswerThatComesLater_IsNotPutOverTheNewer()
    {
        var cache = new HeadCache(_store, 1 << 20, _time);
        _store.Learn("ann");
        _store.Hold();
        var older = ReadAsync(cache, "ann");
        _store.Learn("ann");
        _time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Equal((2, HeadSource.Store), await ReadAsync(cache, "ann"));
        _store.LetGo();

        Assert.Equal((1, HeadSource.Store), await older);
        Assert.Equal((2, HeadSource.Kept), await ReadAsync(cache, "ann"));
    }

    [Fact]
    public async Task BytesAreBounded_AndWhoIsAskedForStays()
    {
        const long most = 20_000;
        var cache = new HeadCache(_store, most, _time);
        _store.Learn("ann");
        for (var i = 0; i < 1000; i++)
        {
            Assert.Equal(i == 0 ? HeadSource.Store : HeadSource.Kept, (await ReadAsync(cache, "ann")).From);
            await ReadAsync(cache, $"passer-by {i}");
            Assert.InRange(cache.UsedBytes, 1, most);
        }
        Assert.Equal(HeadSource.Store, (await ReadAsync(cache, "passer-by 0")).From);
        Assert.Equal(new long[] { 999, 0, 1002 }, Assert.Single(cache.Reads("t")).Reads);
        Assert.Empty(cache.Reads("another tenant"));
    }

    [Theory]
    [InlineData(0, true, 2000)]
    [InlineData(100, true, 2000)] // less than one head takes
    [InlineData(1 << 20, false, 0)]
    public async Task NothingIsKept_WhereThereIsNoRoomOrTheAppWantsNone(long most, bool isOn, double age)
    {
        var cache = new HeadCache(_store, most, _time);
        _store.Learn("ann");
        for (var i = 0; i < 3; i++) Assert.Equal(HeadSource.Store, (await cache.ReadAsync(User("ann"), new HeadCacheDocument(isOn, age), isFresh: false, Cancellation)).Source);
        Assert.Equal((3, 0L), (_store.Reads, cache.UsedBytes));
    }

    [Fact]
    public async Task AgeOfNothing_ChecksEachTime()
    {
        var cache = new HeadCache(_store, 1 << 20, _time);
        _store.Learn("ann");
        var how = new HeadCacheDocument(true, 0);
        await cache.ReadAsync(User("ann"), how, isFresh: false, Cancellation);
        for (var i = 0; i < 3; i++) Assert.Equal(HeadSource.Checked, (await cache.ReadAsync(User("ann"), how, isFresh: false, Cancellation)).Source);
        Assert.Equal((1, 3), (_store.Reads, _store.Checks));
    }

    [Fact]
    public async Task StoreThatFails_IsNotHiddenByWhatIsTooOld()
    {
        var cache = new HeadCache(_store, 1 << 20, _time);
        _store.Learn("ann");
        await ReadAsync(cache, "ann");
        _store.Fails = true;

        Assert.Equal(HeadSource.Kept, (await ReadAsync(cache, "ann")).From);
        _time.Advance(TimeSpan.FromSeconds(2));
        await Assert.ThrowsAsync<StoreException>(() => ReadAsync(cache, "ann"));
    }

    private static UserKey User(string name) => new("t", "app", name);

    private static async Task<(long Updates, HeadSource From)> ReadAsync(HeadCache cache, string user, bool isFresh = false)
    {
        var read = await cache.ReadAsync(User(user), TwoSeconds, isFresh, Cancellation);
        return (read.Weights?.Updates ?? 0, read.Source);
    }

    private sealed class TwoClocks : TimeProvider
    {
        private long _stamp = 7;
        private DateTimeOffset _date = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

        public override long GetTimestamp() => _stamp;

        public override DateTimeOffset GetUtcNow() => _date;

        public void AdvanceStamp(TimeSpan time) => _stamp += (long)(time.TotalSeconds * TimestampFrequency);

        public void AdvanceDate(TimeSpan time) => _date += time;

        public void Advance(TimeSpan time)
        {
            AdvanceStamp(time);
            AdvanceDate(time);
        }
    }

    /// <summary>Heads that are no more than the number of their updates.</summary>
    private sealed class OneTable : NoState
    {
        private readonly Dictionary<UserKey, long> _heads = [];
        private Dictionary<UserKey, long>? _past;
        private TaskCompletionSource? _held, _next;

        /// <summary>Who asks for no more than that is answered with what was here when this was set.</summary>
        public bool Lags
        {
            set => _past = value ? new(_heads) : null;
        }

        public int Reads { get; private set; }
        public int Checks { get; private set; }
        public bool Fails { get; set; }

        public void Learn(string user) => _heads[User(user)] = _heads.GetValueOrDefault(User(user)) + 1;

        public void Erase(string user) => _heads.Remove(User(user));

        /// <summary>The next answer waits.</summary>
        public void Hold() => _held = _next = new TaskCompletionSource();

        public void LetGo() => _held!.SetResult();

        public override async ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, CancellationToken cancellation)
        {
            if (Fails) throw new StoreException("it fails");
            Reads++;
            var read = new WeightsRead(Head(user), 0);
            if (Interlocked.Exchange(ref _next, null) is { } held) await held.Task;
            return read;
        }

        public override ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, string knownTag, CancellationToken cancellation)
        {
            if (Fails) throw new StoreException("it fails");
            var head = Head(user);
            if (head?.Tag == knownTag) Checks++;
            else Reads++;
            return ValueTask.FromResult(head?.Tag == knownTag ? new WeightsRead(null, 0, IsUnchanged: true) : new WeightsRead(head, 0));
        }

        public override async ValueTask<WeightsRead> ReadLatestWeightsAsync(UserKey user, string? knownTag, CancellationToken cancellation)
        {
            var past = _past;
            _past = null;
            try
            {
                return await (knownTag is null ? ReadWeightsAsync(user, cancellation) : ReadWeightsAsync(user, knownTag, cancellation));
            }
            finally
            {
                _past = past;
            }
        }

        private HeadWeights? Head(UserKey user) =>
            !(_past ?? _heads).TryGetValue(user, out var updates) ? null : new HeadWeights { FeaturesVersion = 1, PriorVersion = 1, Updates = updates, Weights = new float[100], Offset = 0, Tag = $"{updates}" };
    }
}
