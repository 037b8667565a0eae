using System.Diagnostics;
using System.Text;
using Skiff.Aws;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

/// <summary>S3 through a network that fails: everything completes or fails clearly, nothing hangs, and no write is lost or made twice.</summary>
public sealed class S3FaultTests(MotoServer moto) : IAsyncLifetime
{
    private const int PartBytes = S3Options.LeastPartBytes;

    private readonly Bucket _bucket = new(moto);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public ValueTask InitializeAsync() => _bucket.MakeAsync();

    public ValueTask DisposeAsync() => _bucket.DisposeAsync();

    [Theory]
    [MemberData(nameof(Some.Faults), MemberType = typeof(Some))]
    public async Task EveryFirstAttemptFails_EverythingCompletes(Fault fault)
    {
        await using var proxy = await _bucket.ProxyAsync();
        var store = _bucket.Open(Hasty(proxy) with { PartBytes = PartBytes });
        var seen = new HashSet<string>();
        proxy.Plan = request =>
        {
            // A clock is set once and is right from then on.
            var what = fault == Fault.Skew ? "once" : $"{request.Method} {request.Path}{request.QueryString} {request.Headers.Range} {request.Headers.IfMatch}";
            // What stalls within an answer that is not an object is given up, not repeated.
            var repeated = fault != Fault.Stall || request.Method == "PUT" || (request.Headers.Range.Count > 0 && !request.Path.Value!.Contains("nothing", StringComparison.Ordinal));
            lock (seen) return repeated && seen.Add(what) ? fault : Fault.None;
        };

        await Task.WhenAll(SmallAsync(), LargeAsync(), NothingAsync());

        Assert.InRange(proxy.Count(fault), fault == Fault.Skew ? 1 : 8, 20);

        async Task SmallAsync()
        {
            Assert.True(await store.TryCreateAsync("small/a", "first"u8.ToArray(), Cancellation));
            var stored = (await store.GetAsync("small/a", Cancellation))!;
            Assert.Equal("first"u8.ToArray(), stored.Content);
            Assert.True(await store.TryReplaceAsync("small/a", "second"u8.ToArray(), stored.Tag, Cancellation));
            Assert.False(await store.TryReplaceAsync("small/a", "third"u8.ToArray(), stored.Tag, Cancellation));
            Assert.False(await store.TryCreateAsync("small/a", "third"u8.ToArray(), Cancellation));
            Assert.Equal("second"u8.ToArray(), (await store.GetAsync("small/a", Cancellation))!.Content);
        }

        async Task LargeAsync()
        {
            var content = Some.Bytes(2 * PartBytes + 1);
            Assert.True(await store.TryCreateAsync("large/a", content, Cancellation));
            Some.AssertSame(content, (await store.GetAsync("large/a", Cancellation))!.Content);
            // Nobody knows of an upload whose first answer was lost; the bucket's lifecycle ends it.
            Assert.InRange(await _bucket.UploadsAsync(), 0, 1);
        }

        async Task NothingAsync()
        {
            Assert.Null(await store.GetAsync("nothing/a", Cancellation));
            Assert.Empty(await store.ListAsync("nothing", Cancellation));
        }
    }

    [Theory]
    [InlineData(Fault.ServerError, "AWS failed")]
    [InlineData(Fault.SlowDown, "slow down")]
    [InlineData(Fault.Skew, "clock")]
    [InlineData(Fault.Reset, "the connection failed")]
    [InlineData(Fault.Truncate, "the connection failed")]
    [InlineData(Fault.Stall, "no whole answer")]
    [InlineData(Fault.Conflict, "ConditionalRequestConflict")]
    public async Task EveryAttemptFails_IsAnErrorWithinTheLimitThatSaysWhatToDo(Fault fault, string words)
    {
        await _bucket.Open().TryCreateAsync("a/there", Some.Bytes(1000), Cancellation);
        await using var proxy = await _bucket.ProxyAsync();
        var store = _bucket.Open(Hasty(proxy));
        proxy.Plan = _ => fault;
        var started = Stopwatch.GetTimestamp();

        await Task.WhenAll(
            FailsAsync(async () => await store.GetAsync("a/there", Cancellation)),
            FailsAsync(async () => await store.TryCreateAsync("a/new", Some.Bytes(10), Cancellation)),
            FailsAsync(async () => await store.TryReplaceAsync("a/there", Some.Bytes(10), "tag", Cancellation)),
            FailsAsync(async () => await store.ListAsync("a", Cancellation)));

        // Three attempts of a second and their pauses, twice: for the header and then for the body; and .NET waits two seconds for the rest of an answer that nobody wants.
        Assert.InRange(Stopwatch.GetElapsedTime(started).TotalSeconds, 0, 2 * 8 + 2);

        async Task FailsAsync(Func<Task> operation)
        {
            var error = await Assert.ThrowsAsync<StoreException>(operation);
            Assert.Contains(words, error.Message);
            Assert.Contains("'a", error.Message);
            Assert.Contains(_bucket.Location, error.Message);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task WrongClockWhereOnlyHeadersAreAskedFor_IsCorrected(bool taken)
    {
        var content = Some.Bytes(PartBytes + 1);
        if (taken) await _bucket.Open().TryCreateAsync("large/a", "first"u8.ToArray(), Cancellation);
        await using var proxy = await _bucket.ProxyAsync();
        var store = _bucket.Open(Hasty(proxy) with { PartBytes = PartBytes });
        // The clock stays wrong until an answer names the error, which an answer to HEAD can't.
        var left = 2;
        proxy.Plan = _ => Interlocked.Decrement(ref left) >= 0 ? Fault.Skew : Fault.None;

        Assert.Equal(!taken, await store.TryCreateAsync("large/a", content, Cancellation));

        Assert.Equal(2, proxy.Count(Fault.Skew));
        Some.AssertSame(taken ? "first"u8.ToArray() : content, (await store.GetAsync("large/a", Cancellation))!.Content);
    }

    [Theory]
    [InlineData(Fault.Skew, "clock")]
    [InlineData(Fault.Denied, "AccessDenied")]
    public async Task RefusedWhereOnlyHeadersAreAskedFor_IsAnErrorThatSaysWhy(Fault fault, string words)
    {
        await using var proxy = await _bucket.ProxyAsync();
        var store = _bucket.Open(Hasty(proxy) with { PartBytes = PartBytes });
        proxy.Plan = _ => fault;

        var error = await Assert.ThrowsAsync<StoreException>(async () => await store.TryCreateAsync("large/a", Some.Bytes(PartBytes + 1), Cancellation));

        Assert.Contains(words, error.Message);
    }

    [Fact]
    public async Task ConflictWithAnotherWriter_IsAskedAgain()
    {
        await using var proxy = await _bucket.ProxyAsync();
        var left = 3;
        proxy.Plan = _ => Interlocked.Decrement(ref left) >= 0 ? Fault.Conflict : Fault.None;

        Assert.True(await _bucket.Open(Hasty(proxy)).TryCreateAsync("a/b", "x"u8.ToArray(), Cancellation));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(150)] // as many as a crowd can write while we are repeating
    public async Task LostAnswerAndOtherWritersSinceThen_IsStillOurWrite(int others)
    {
        var other = _bucket.Open();
        await other.TryCreateAsync("a/b", "first"u8.ToArray(), Cancellation);
        var before = (await other.GetAsync("a/b", Cancellation))!;
        await using var proxy = await _bucket.ProxyAsync();
        var attempts = 0;
        proxy.Plan = request =>
        {
            if (request.Method != "PUT") return Fault.None;
            if (Interlocked.Increment(ref attempts) == 1) return Fault.LostAnswer;
            // The write is repeated; meanwhile somebody has built on it.
            Task.Run(
                async () =>
                {
                    var ours = (await other.GetAsync("a/b", Cancellation))!;
                    Assert.Equal("second"u8.ToArray(), ours.Content);
                    for (var i = 0; i < others; i++)
                    {
                        var latest = (await other.GetAsync("a/b", Cancellation))!;
                        Assert.True(await other.TryReplaceAsync("a/b", Encoding.UTF8.GetBytes($"{i} others"), latest.Tag, Cancellation));
                    }
                },
                Cancellation).Wait(Cancellation);
            return Fault.None;
        };

        Assert.True(await _bucket.Open(new S3Options { Endpoint = proxy.Address, AttemptTimeout = TimeSpan.FromMinutes(1) }).TryReplaceAsync("a/b", "second"u8.ToArray(), before.Tag, Cancellation));

        Assert.Equal(2, attempts);
        Assert.Equal(Encoding.UTF8.GetBytes($"{others - 1} others"), (await other.GetAsync("a/b", Cancellation))!.Content);
    }

    [Fact]
    public async Task OneRequestInTenFails_StateIsThatOfACleanRun()
    {
        const int workers = 8;
        const int each = 15;
        Fault[] faults = [Fault.ServerError, Fault.SlowDown, Fault.Reset, Fault.LostAnswer, Fault.Truncate, Fault.Stall, Fault.Conflict];
        await using var proxy = await _bucket.ProxyAsync();
        var random = new Random(1);
        proxy.Plan = request =>
        {
            lock (random)
            {
                var fault = random.Next(10) == 0 ? faults[random.Next(faults.Length)] : Fault.None;
                return fault == Fault.Conflict && request.Method == "GET" ? Fault.None : fault;
            }
        };
        await _bucket.Open().TryCreateAsync("shared", ""u8.ToArray(), Cancellation);
        var slowest = TimeSpan.Zero;
        var failures = 0;

        await Task.WhenAll(Enumerable.Range(0, workers).Select(worker => Task.Run(
            async () =>
            {
                var store = _bucket.Open(Hasty(proxy));
                for (var i = 0; i < each; i++)
                {
                    var name = $"{worker}-{i}";
                    while (!await DoAsync(async () => await store.TryCreateAsync($"own/{name}", Encoding.UTF8.GetBytes(name), Cancellation), unsure: true)) { }
                    var unsure = false;
                    for (var done = false; !done;)
                    {
                        StoredObject? current = null;
                        while (!await DoAsync(async () => (current = await store.GetAsync("shared", Cancellation)) is not null, unsure: false)) { }
                        var text = Encoding.UTF8.GetString(current!.Content);
                        // Only after an error may it be there without our having heard of it.
                        if (text.Contains($"[{name}]", StringComparison.Ordinal))
                        {
                            Assert.True(unsure, $"{name} was written and reported as lost");
                            break;
                        }
                        try
                        {
                            done = await store.TryReplaceAsync("shared", Encoding.UTF8.GetBytes($"{text}[{name}]"), current.Tag, Cancellation);
                        }
                        catch (StoreException)
                        {
                            unsure = true;
                            Interlocked.Increment(ref failures);
                        }
                    }
                }
            },
            Cancellation)));

        var clean = _bucket.Open();
        var expected = Enumerable.Range(0, workers).SelectMany(worker => Enumerable.Range(0, each).Select(i => $"{worker}-{i}")).ToArray();
        Assert.Equal(expected.Order(StringComparer.Ordinal), await clean.ListAsync("own", Cancellation));
        foreach (var name in expected) Assert.Equal(name, Encoding.UTF8.GetString((await clean.GetAsync($"own/{name}", Cancellation))!.Content));
        var written = Encoding.UTF8.GetString((await clean.GetAsync("shared", Cancellation))!.Content).Split('[', ']').Where(name => name.Length > 0);
        Assert.Equal(expected.Order(StringComparer.Ordinal), written.Order(StringComparer.Ordinal));
        Assert.InRange(slowest.TotalSeconds, 0, 12);
        TestContext.Current.TestOutputHelper?.WriteLine($"{faults.Sum(proxy.Count)} faults, {failures} errors, slowest {slowest.TotalSeconds:0.0} s");

        // After an error it is not known whether a write was made; the caller asks again.
        async Task<bool> DoAsync(Func<Task<bool>> action, bool unsure)
        {
            var started = Stopwatch.GetTimestamp();
            try
            {
                return await action() || unsure;
            }
            catch (StoreException)
            {
                Interlocked.Increment(ref failures);
                return false;
            }
            finally
            {
                var took = Stopwatch.GetElapsedTime(started);
                lock (random) slowest = took > slowest ? took : slowest;
            }
        }
    }

    [Fact]
    public async Task CancelledRead_EndsAtOnce()
    {
        await using var proxy = await _bucket.ProxyAsync();
        await _bucket.Open().TryCreateAsync("a/b", Some.Bytes(1000), Cancellation);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        proxy.Plan = _ =>
        {
            stop.CancelAfter(100);
            return Fault.Stall;
        };
        var started = Stopwatch.GetTimestamp();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await _bucket.Open(new S3Options { Endpoint = proxy.Address }).GetAsync("a/b", stop.Token));

        Assert.InRange(Stopwatch.GetElapsedTime(started).TotalSeconds, 0, 2);
    }

    [Fact]
    public async Task NobodyListens_IsAnErrorThatSaysWhatToCheck()
    {
        var store = _bucket.Open(new S3Options { Endpoint = new Uri("http://127.0.0.1:1") });

        var error = await Assert.ThrowsAsync<StoreException>(async () => await store.GetAsync("a/b", Cancellation));

        Assert.StartsWith($"can't read 'a/b' in {_bucket.Location}: the connection failed:", error.Message);
        Assert.EndsWith("check the network and AWS_ENDPOINT_URL", error.Message);
    }

    /// <summary>Three attempts of a second, for tests in which some are lost.</summary>
    private static S3Options Hasty(FaultProxy proxy) => new() { Endpoint = proxy.Address, AttemptTimeout = TimeSpan.FromSeconds(1) };
}
