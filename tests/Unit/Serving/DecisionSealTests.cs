using Skiff.Serving;

namespace Skiff.Unit.Serving;

public sealed class DecisionSealTests
{
    private const string Secret = "a secret of sufficient length";
    private const string Other = "another secret, just as long";

    private readonly MovableTime _time = new();

    [Fact]
    public void SealedDecision_OpensAsItWas()
    {
        var seal = new DecisionSeal([Secret], _time);
        var decision = Some() with { Features = [0.5f, -2, 1024], Base = [0.1f, 0.9f], FeaturesVersion = 3, PriorVersion = 300, Propensity = 0.25f };

        var opened = seal.Open(seal.Seal(decision), "acme", "digits")!;

        Assert.Equal(decision.Features, opened.Features);
        Assert.Equal(decision.Base, opened.Base);
        Assert.Equal(decision with { Features = opened.Features, Base = opened.Base }, opened);
    }

    [Fact]
    public void MomentFromWhichSilenceSpeaks_IsSealedWithIt()
    {
        var seal = new DecisionSeal([Secret], _time);
        var made = new DateTimeOffset(2026, 1, 1, 0, 0, 0, 250, TimeSpan.Zero);

        var opened = seal.Open(seal.Seal(Some() with { Made = made, Due = made.AddMilliseconds(200) }), "acme", "digits")!;

        Assert.Equal((made, made.AddMilliseconds(200)), (opened.Made, opened.Due));
        Assert.Null(seal.Open(seal.Seal(Some() with { Made = made }), "acme", "digits")!.Due);
    }

    [Fact]
    public void Features_LoseNoMoreThanHalfPrecisionDoes()
    {
        var seal = new DecisionSeal([Secret], _time);

        var opened = seal.Open(seal.Seal(Some() with { Features = [0.1f, 3.14159f] }), "acme", "digits")!;

        Assert.Equal([(float)(Half)0.1f, (float)(Half)3.14159f], opened.Features);
    }

    [Fact]
    public void SameDecisionTwice_HasTwoIds()
    {
        var seal = new DecisionSeal([Secret], _time);

        Assert.NotEqual(seal.Seal(Some()), seal.Seal(Some()));
    }

    [Fact]
    public void AnyChangedCharacter_DoesNotOpen()
    {
        var seal = new DecisionSeal([Secret], _time);
        var id = seal.Seal(Some());
        for (var i = 0; i < id.Length; i++)
        {
            // The last character holds unused bits: what decodes to the same bytes is the same id.
            var changed = id[..i] + (id[i] == 'A' ? 'B' : 'A') + id[(i + 1)..];
            if (System.Buffers.Text.Base64Url.IsValid(changed) && i < id.Length - 1) Assert.Null(seal.Open(changed, "acme", "digits"));
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("AQ")]
    [InlineData("not base64url!")]
    [InlineData("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    public void ForgedId_DoesNotOpen(string id) => Assert.Null(new DecisionSeal([Secret], _time).Open(id, "acme", "digits"));

    [Fact]
    public void ForeignTenantOrApp_DoesNotOpen()
    {
        var seal = new DecisionSeal([Secret], _time);
        var id = seal.Seal(Some());

        Assert.Null(seal.Open(id, "rival", "digits"));
        Assert.Null(seal.Open(id, "acme", "fashion"));
    }

    [Fact]
    public void ExpiredDecision_OpensForAWhile_AndThenNoMore()
    {
        var seal = new DecisionSeal([Secret], _time);
        var id = seal.Seal(Some());

        _time.Now += TimeSpan.FromHours(2);
        Assert.True(seal.Open(id, "acme", "digits")!.Expires < _time.Now);

        _time.Now += DecisionSeal.LateFor;
        Assert.Null(seal.Open(id, "acme", "digits"));
    }

    [Fact]
    public void AnotherProcessWithTheSecret_Opens()
    {
        var id = new DecisionSeal([Secret], _time).Seal(Some());

        Assert.NotNull(new DecisionSeal([Secret], _time).Open(id, "acme", "digits"));
        Assert.Null(new DecisionSeal([Other], _time).Open(id, "acme", "digits"));
    }

    [Fact]
    public void RotatedSecret_StillOpensWhatTheOldOneSealed()
    {
        var id = new DecisionSeal([Secret], _time).Seal(Some());

        Assert.NotNull(new DecisionSeal([Other, Secret], _time).Open(id, "acme", "digits"));
    }

    [Fact]
    public void ShortSecret_IsRefused() => Assert.Contains("16 characters", Assert.Throws<FormatException>(() => new DecisionSeal(["short"], _time)).Message);

    [Fact]
    public void ManyThreads_SealIdsThatAllOpen()
    {
        var seal = new DecisionSeal([Secret], _time);

        var ids = Enumerable.Range(0, 2000).AsParallel().Select(_ => seal.Seal(Some())).ToList();

        Assert.Equal(ids.Count, ids.Distinct().Count());
        Assert.All(ids, id => Assert.NotNull(seal.Open(id, "acme", "digits")));
    }

    private Decision Some() => new() { Tenant = "acme", App = "digits", AppVersion = 2, User = "zoë", Label = 7, Expires = _time.Now + TimeSpan.FromHours(1) };

    private sealed class MovableTime : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

        public override DateTimeOffset GetUtcNow() => Now;
    }
}
