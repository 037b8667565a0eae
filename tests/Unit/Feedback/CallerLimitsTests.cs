using Skiff.Feedback;

namespace Skiff.Unit.Feedback;

public sealed class CallerLimitsTests
{
    private static readonly DateTimeOffset Noon = new(2026, 1, 2, 12, 0, 0, TimeSpan.Zero);

    [Fact]
    public void WhatComesAgain_CountsOnce_AndHasTheVerdictThatItHad()
    {
        var limits = new CallerLimits();

        // A batch that is tried again and again, while the store is away.
        for (var attempt = 0; attempt < 20; attempt++)
        {
            for (var i = 0; i < 5; i++) Assert.Equal(i < 3, limits.TryTake(Message($"f{i}"), 3));
        }
        Assert.False(limits.TryTake(Message("f5"), 3));
        // An hour's allowance has come back.
        Assert.True(limits.TryTake(Message("f6") with { At = Noon.AddHours(1) }, 3));
        Assert.True(limits.TryTake(Message("f0") with { Caller = "other" }, 3));
    }

    [Fact]
    public void MoreThanAreRemembered_AreForgottenOldestFirst()
    {
        var limits = new CallerLimits();
        Assert.True(limits.TryTake(Message("first"), 1e9));
        for (var i = 0; i < 70_000; i++) Assert.True(limits.TryTake(Message($"f{i}"), 1e9));

        // It is new again, and there is no room for it.
        Assert.False(limits.TryTake(Message("first"), 1));
        Assert.True(limits.TryTake(Message("f69999"), 1));
    }

    private static FeedbackMessage Message(string id) => new() { Tenant = "t", App = "a", User = "u", FeedbackId = id, Caller = "key", At = Noon, FeaturesVersion = 1, Features = [], Base = [] };
}
