using Microsoft.AspNetCore.Http;
using Skiff.Routing;

namespace Skiff.Unit.Routing;

public sealed class TraceParentTests
{
    private const string Trace = "4bf92f3577b34da6a3ce929d0e0e4736", Span = "00f067aa0ba902b7";

    [Theory]
    [InlineData($"00-{Trace}-{Span}-01", "01")]
    [InlineData($"00-{Trace}-{Span}-00", "00")]
    [InlineData($"cc-{Trace}-{Span}-03-what the future brings", "03")]
    public void HeaderThatIsValid_IsHandedOnWithSpansOfItsOwn(string header, string flags)
    {
        var read = Read(header, "a=1, b=2")!;

        Assert.Equal(new TraceParent(Trace, flags, "a=1, b=2"), read);
        var (one, other) = (read.Child(), read.Child());
        Assert.NotEqual(one, other);
        foreach (var child in new[] { one, other }) Assert.Equal(read with { State = null }, Read(child));
        Assert.DoesNotContain(Span, one, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData($"00-{Trace}-{Span}")]
    [InlineData($"00-{Trace}-{Span}-01-more")]
    [InlineData($"ff-{Trace}-{Span}-01")]
    [InlineData($"01-{Trace}-{Span}-01x")]
    [InlineData($"00-00000000000000000000000000000000-{Span}-01")]
    [InlineData($"00-{Trace}-0000000000000000-01")]
    [InlineData("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01")]
    [InlineData($"00-{Trace}-00f067aa0ba902bg-01")]
    [InlineData($"00_{Trace}-{Span}-01")]
    public void HeaderThatIsNot_IsNoTrace(string header) => Assert.Null(Read(header, "a=1"));

    [Fact]
    public void TwoHeaders_AreNoTrace()
    {
        var headers = new HeaderDictionary { ["traceparent"] = new[] { $"00-{Trace}-{Span}-01", $"00-{Trace}-{Span}-01" } };
        Assert.Null(TraceParent.Read(headers));
    }

    private static TraceParent? Read(string header, string? state = null)
    {
        var headers = new HeaderDictionary { ["traceparent"] = header };
        if (state is not null) headers["tracestate"] = state;
        return TraceParent.Read(headers);
    }
}
