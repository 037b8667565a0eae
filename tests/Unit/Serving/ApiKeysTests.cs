using Skiff.Serving;

namespace Skiff.Unit.Serving;

public sealed class ApiKeysTests
{
    [Fact]
    public void CreatedKey_IsKnownByItsEntry()
    {
        var (key, entry) = ApiKeys.Create("acme", Scopes.Predict | Scopes.Feedback);

        var caller = ApiKeys.Parse(entry).Authorize(key, Scopes.Predict);

        Assert.Equal(new Caller("acme", Scopes.Predict | Scopes.Feedback, caller.Key), caller);
        Assert.DoesNotContain(key, entry);
    }

    [Fact]
    public void EachOfSeveralKeys_HasItsTenant()
    {
        var (first, firstEntry) = ApiKeys.Create("acme", Scopes.All);
        var (second, secondEntry) = ApiKeys.Create("rival", Scopes.Predict);
        var keys = ApiKeys.Parse($"{firstEntry}, {secondEntry}");

        Assert.Equal(("acme", "rival"), (keys.Authorize(first, Scopes.Admin).Tenant, keys.Authorize(second, Scopes.Predict).Tenant));
        Assert.Equal(Refusal.Forbidden, Assert.Throws<RequestException>(() => keys.Authorize(second, Scopes.Feedback)).Refusal);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("skiff_wrong")]
    public void MissingOrUnknownKey_IsRefused(string? key)
    {
        var keys = ApiKeys.Parse(ApiKeys.Create("acme", Scopes.All).Entry);

        Assert.Equal(Refusal.Unauthenticated, Assert.Throws<RequestException>(() => keys.Authorize(key, Scopes.Predict)).Refusal);
    }

    [Fact]
    public void WithoutKeys_EverybodyIsTheDefaultTenant() => Assert.Equal(new Caller("default", Scopes.All), ApiKeys.Parse(null).Authorize(null, Scopes.Admin));

    [Theory]
    [InlineData("acme")]
    [InlineData("acme:predict:sha256:12")]
    [InlineData("acme:predict:md5:0000000000000000000000000000000000000000000000000000000000000000")]
    [InlineData("a b:predict:sha256:0000000000000000000000000000000000000000000000000000000000000000")]
    [InlineData("acme:everything:sha256:0000000000000000000000000000000000000000000000000000000000000000")]
    public void MalformedEntry_SaysWhatItTakes(string entry)
    {
        var message = Assert.Throws<FormatException>(() => ApiKeys.Parse(entry)).Message;

        Assert.Contains("it takes", message);
        Assert.DoesNotContain("0000", message);
    }
}
