using System.Globalization;
using System.Text;
using Skiff.Store;

namespace Skiff.Stores;

/// <summary>What every object store must keep, wherever its objects lie.</summary>
public abstract class ObjectStoreTests
{
    private const int Writers = 8;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    /// <summary>One more client of the test's one store, as another process would have.</summary>
    protected abstract IObjectStore Open();

    /// <summary>Makes it impossible to write <c>full/object</c>, also for root.</summary>
    protected abstract IObjectStore OpenUnwritable();

    [Fact]
    public async Task MissingObject_IsNull()
    {
        var store = Open();

        Assert.Null(await store.GetAsync("a/missing", Cancellation));
        await store.TryCreateAsync("a/there", "x"u8.ToArray(), Cancellation);
        Assert.Null(await store.GetAsync("a/missing", Cancellation));
    }

    [Fact]
    public async Task CreatedObject_IsReadBackByOthers()
    {
        var content = Encoding.UTF8.GetBytes("content");
        Assert.True(await Open().TryCreateAsync("a/b/c", content, Cancellation));

        var stored = await Open().GetAsync("a/b/c", Cancellation);

        Assert.Equal(content, stored!.Content);
    }

    [Fact]
    public async Task EmptyObject_IsNotMissing()
    {
        Assert.True(await Open().TryCreateAsync("a/empty", ReadOnlyMemory<byte>.Empty, Cancellation));

        Assert.Empty((await Open().GetAsync("a/empty", Cancellation))!.Content);
    }

    [Fact]
    public async Task TakenKey_IsNotOverwrittenByCreate()
    {
        var store = Open();
        await store.TryCreateAsync("a/b", "first"u8.ToArray(), Cancellation);

        Assert.False(await store.TryCreateAsync("a/b", "second"u8.ToArray(), Cancellation));

        Assert.Equal("first"u8.ToArray(), (await store.GetAsync("a/b", Cancellation))!.Content);
    }

    [Fact]
    public async Task RacingCreators_OneWins()
    {
        for (var round = 0; round < 10; round++)
        {
            var key = $"race/{round}";
            using var start = new Barrier(Writers);

            var won = await Task.WhenAll(Enumerable.Range(0, Writers).Select(writer => Task.Factory.StartNew(
                async () =>
                {
                    var store = Open();
                    start.SignalAndWait(Cancellation);
                    return await store.TryCreateAsync(key, new[] { (byte)writer }, Cancellation);
                },
                Cancellation, TaskCreationOptions.LongRunning, TaskScheduler.Default).Unwrap()));

            var winner = Assert.Single(Enumerable.Range(0, Writers), writer => won[writer]);
            Assert.Equal([(byte)winner], (await Open().GetAsync(key, Cancellation))!.Content);
        }
    }

    [Fact]
    public async Task ObjectAsItWasRead_IsReplaced()
    {
        var store = Open();
        await store.TryCreateAsync("a/b", "first"u8.ToArray(), Cancellation);
        var before = (await store.GetAsync("a/b", Cancellation))!;

        Assert.True(await store.TryReplaceAsync("a/b", "second"u8.ToArray(), before.Tag, Cancellation));

        var after = (await store.GetAsync("a/b", Cancellation))!;
        Assert.Equal("second"u8.ToArray(), after.Content);
        Assert.NotEqual(before.Tag, after.Tag);
    }

    [Fact]
    public async Task ObjectThatOthersReplaced_IsKept()
    {
        var store = Open();
        await store.TryCreateAsync("a/b", "first"u8.ToArray(), Cancellation);
        var before = (await store.GetAsync("a/b", Cancellation))!;
        Assert.True(await Open().TryReplaceAsync("a/b", "second"u8.ToArray(), before.Tag, Cancellation));

        Assert.False(await store.TryReplaceAsync("a/b", "third"u8.ToArray(), before.Tag, Cancellation));

        Assert.Equal("second"u8.ToArray(), (await store.GetAsync("a/b", Cancellation))!.Content);
    }

    [Fact]
    public async Task MissingObject_IsNotReplaced()
    {
        var store = Open();

        Assert.False(await store.TryReplaceAsync("nowhere/b", "content"u8.ToArray(), "some tag", Cancellation));

        Assert.Null(await store.GetAsync("nowhere/b", Cancellation));
    }

    [Fact]
    public async Task RacingReplacers_LoseNoUpdate()
    {
        const int each = 15;
        await Open().TryCreateAsync("a/counter", "0"u8.ToArray(), Cancellation);

        await Task.WhenAll(Enumerable.Range(0, Writers).Select(_ => Task.Run(
            async () =>
            {
                var store = Open();
                for (var added = 0; added < each;)
                {
                    var current = (await store.GetAsync("a/counter", Cancellation))!;
                    var next = int.Parse(Encoding.UTF8.GetString(current.Content), CultureInfo.InvariantCulture) + 1;
                    if (await store.TryReplaceAsync("a/counter", Encoding.UTF8.GetBytes($"{next}"), current.Tag, Cancellation)) added++;
                }
            },
            Cancellation)));

        Assert.Equal($"{Writers * each}", Encoding.UTF8.GetString((await Open().GetAsync("a/counter", Cancellation))!.Content));
    }

    [Fact]
    public async Task ReaderDuringReplaces_SeesWholeContents()
    {
        const int enough = 20;
        await Open().TryCreateAsync("a/changing", Content(0), Cancellation);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        var writing = Task.Run(
            async () =>
            {
                var store = Open();
                for (var i = 1; !stop.IsCancellationRequested; i++)
                {
                    var current = (await store.GetAsync("a/changing", Cancellation))!;
                    Assert.True(await store.TryReplaceAsync("a/changing", Content(i % 100), current.Tag, Cancellation));
                }
            },
            Cancellation);

        var reader = Open();
        var seen = new HashSet<byte>();
        while (seen.Count < enough && !writing.IsCompleted)
        {
            var content = (await reader.GetAsync("a/changing", Cancellation))!.Content;
            Assert.Equal(Content(content[0]), content);
            seen.Add(content[0]);
        }
        await stop.CancelAsync();
        await writing;

        // Its first byte says what the whole must be.
        static byte[] Content(int i)
        {
            var content = new byte[1 + i * 3001];
            Array.Fill(content, (byte)i);
            return content;
        }
    }

    [Fact]
    public async Task List_NamesWhatIsDirectlyBelow()
    {
        var store = Open();
        foreach (var key in new[] { "t/models/b/versions/1", "t/models/a/versions/1", "t/models/B/aliases/live", "t/apps/c", "u/models/d" })
        {
            await store.TryCreateAsync(key, "x"u8.ToArray(), Cancellation);
        }

        Assert.Equal(["B", "a", "b"], await store.ListAsync("t/models", Cancellation));
        Assert.Equal(["apps", "models"], await store.ListAsync("t", Cancellation));
        Assert.Equal(["t", "u"], await store.ListAsync("", Cancellation));
        Assert.Empty(await store.ListAsync("t/nothing", Cancellation));
    }

    [Fact]
    public async Task List_AfterWrites_NamesNothingThatWritersLeave()
    {
        var store = Open();
        await store.TryCreateAsync("a/b", "1"u8.ToArray(), Cancellation);
        await store.TryCreateAsync("a/b", "2"u8.ToArray(), Cancellation);
        await store.TryReplaceAsync("a/b", "3"u8.ToArray(), (await store.GetAsync("a/b", Cancellation))!.Tag, Cancellation);

        Assert.Equal(["b"], await store.ListAsync("a", Cancellation));
    }

    [Fact]
    public async Task UnwritableStore_IsAnErrorThatNamesTheObject()
    {
        var store = OpenUnwritable();

        var error = await Assert.ThrowsAsync<StoreException>(async () => await store.TryCreateAsync("full/object", "x"u8.ToArray(), Cancellation));

        Assert.Contains("'full/object'", error.Message);
        Assert.Contains(store.Location, error.Message);
    }
}
