using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Routing;
using Skiff.Store;

namespace Skiff.Unit.Routing;

/// <summary>A replica that registers, and a router that follows.</summary>
public sealed class RegistrarTests
{
    private static readonly Uri One = new("http://10.0.0.1:8090"), Two = new("http://10.0.0.2:8090");

    private readonly ManualTime _time = new();
    private readonly Table _table = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Registration_IsRenewedWhenDue_AndEndsByItselfWhereItIsNot()
    {
        var registrar = Registrar(One);
        await registrar.RenewDueAsync(Cancellation);
        _time.Advance(Skiff.Routing.Registrar.Renewal - TimeSpan.FromMilliseconds(1));
        await registrar.RenewDueAsync(Cancellation);
        Assert.Equal(1, _table.Writes);
        _time.Advance(TimeSpan.FromMilliseconds(1));
        await registrar.RenewDueAsync(Cancellation);
        Assert.Equal(2, _table.Writes);

        var source = new RegisteredReplicas(_table, _time);
        _time.Advance(Skiff.Routing.Registrar.Lifetime - TimeSpan.FromMilliseconds(1));
        Assert.Equal(One, Assert.Single(await source.FindAsync(Cancellation)).Address);
        _time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Empty(await source.FindAsync(Cancellation));
    }

    [Fact]
    public async Task Replica_RegistersOnlyWhileItTakesRequests_AndNeverAfterItLeft()
    {
        var takes = false;
        var registrar = new Registrar(_table, One, () => takes ? (0, 0, []) : null, _time, NullLogger<Registrar>.Instance);
        await registrar.RenewDueAsync(Cancellation);
        Assert.Empty(_table.Replicas);
        takes = true;
        await registrar.RenewDueAsync(Cancellation);
        Assert.Single(_table.Replicas);

        await registrar.LeaveAsync();
        Assert.Empty(_table.Replicas);
        _time.Advance(TimeSpan.FromMinutes(1));
        await registrar.RenewDueAsync(Cancellation);
        Assert.Empty(_table.Replicas);
    }

    [Fact]
    public async Task StoreThatFails_IsTriedAgainBeforeTheNextRenewal()
    {
        var registrar = Registrar(One);
        _table.Fails = true;
        await registrar.RenewDueAsync(Cancellation);
        _table.Fails = false;
        await registrar.RenewDueAsync(Cancellation);
        Assert.Single(_table.Replicas);

        _table.Fails = true;
        await registrar.LeaveAsync(); // it ends by itself then
    }

    [Fact]
    public async Task Router_FollowsWhoComesAndGoes_AndKnowsWhatIsWarmBeforeItAsks()
    {
        var router = new Router(new RouterOptions(), _time);
        var membership = new Membership(router, new RegisteredReplicas(_table, _time), _time);
        var (first, second) = (Registrar(One, ("acme", "fm_big")), Registrar(Two));
        await first.RenewDueAsync(Cancellation);
        await second.RenewDueAsync(Cancellation);

        await membership.RefreshDueAsync(Cancellation);
        Assert.Equal([One.Authority, Two.Authority], Members());
        for (var i = 0; i < 4; i++)
        {
            // Whoever the key belongs to: the model is warm at one of them. The other may have one request to load it by.
            Assert.True(router.TryTake((ulong)i * 77, RouteKey.OfModel("acme", "fm_big"), null, out var lease));
            if (!lease.Warms) Assert.Equal(One.Authority, lease.Replica.Address.Authority);
            lease.End(Outcome.Answered);
        }

        await first.LeaveAsync();
        await membership.RefreshDueAsync(Cancellation); // not yet time
        Assert.Equal(2, router.Replicas.Count);
        _time.Advance(TimeSpan.FromSeconds(5));
        await second.RenewDueAsync(Cancellation);
        await membership.RefreshDueAsync(Cancellation);
        Assert.Equal([Two.Authority], Members());

        // All of them silent is more often the store's trouble than theirs: whoever was there last stays, and is judged by what requests meet.
        _time.Advance(TimeSpan.FromMinutes(1));
        await membership.RefreshDueAsync(Cancellation);
        Assert.Equal([Two.Authority], Members());
        Assert.Equal("found no replica", membership.Error);

        string[] Members() => [.. router.Replicas.Replicas.ToArray().Select(replica => replica.Address.Authority)];
    }

    [Fact]
    public async Task Registration_LeavesWhatAReplicaSaidOfItsWorkers()
    {
        var router = new Router(new RouterOptions(), _time);
        var membership = new Membership(router, new RegisteredReplicas(_table, _time), _time);
        await Registrar(One).RenewDueAsync(Cancellation);
        await membership.RefreshDueAsync(Cancellation);
        var replica = router.Replicas.Replicas[0];
        Assert.Null(replica.Report!.Workers);
        router.Say(replica, ReplicaReport.Parse("0.9", "0", null, null, "4"));

        _time.Advance(TimeSpan.FromSeconds(5));
        await membership.RefreshDueAsync(Cancellation);
        Assert.Equal((0.5, 4), (replica.Report.Load, replica.Report.Workers));
    }

    [Fact]
    public async Task LookThatItsCallerGaveUp_IsNone_AndTheNextLooksAtOnce()
    {
        var router = new Router(new RouterOptions(), _time);
        var looks = 0;
        var membership = new Membership(router, new DnsReplicas("heavy", 8080, async (_, cancellation) =>
        {
            if (++looks == 1) await Task.Delay(Timeout.Infinite, cancellation);
            return [System.Net.IPAddress.Parse("10.0.0.1")];
        }), _time);

        using (var gone = new CancellationTokenSource())
        {
            var look = membership.RefreshDueAsync(gone.Token);
            await gone.CancelAsync();
            await look;
        }
        Assert.Equal(0, router.Replicas.Count);
        await membership.RefreshDueAsync(Cancellation);
        Assert.Equal(1, router.Replicas.Count);
        await membership.RefreshDueAsync(Cancellation);
        Assert.Equal(2, looks);
    }

    private Registrar Registrar(Uri address, params (string, string)[] warm) => new(_table, address, () => (0.5, 0, warm), _time, NullLogger<Registrar>.Instance);

    private sealed class Table : IReplicaRegistry
    {
        public Dictionary<Uri, Registration> Replicas { get; } = [];
        public int Writes { get; private set; }
        public bool Fails { get; set; }

        public ValueTask RegisterAsync(Registration replica, CancellationToken cancellation)
        {
            if (Fails) throw new StoreException("it fails");
            Writes++;
            Replicas[replica.Address] = replica;
            return ValueTask.CompletedTask;
        }

        public ValueTask UnregisterAsync(Uri address, CancellationToken cancellation)
        {
            if (Fails) throw new StoreException("it fails");
            Replicas.Remove(address);
            return ValueTask.CompletedTask;
        }

        public ValueTask<IReadOnlyList<Registration>> ReadReplicasAsync(CancellationToken cancellation) => ValueTask.FromResult<IReadOnlyList<Registration>>([.. Replicas.Values]);
    }
}
