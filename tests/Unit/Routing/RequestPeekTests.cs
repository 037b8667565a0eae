using System.Text;
using Skiff.Routing;

namespace Skiff.Unit.Routing;

public sealed class RequestPeekTests
{
    [Theory]
    [InlineData("""{"user":"ann","input":[1]}""", "ann")]
    [InlineData("""{"input":[1], "user" : "b\u00e9"}""", null)] // escapes: not worth a parser
    [InlineData("""{"input":[1], "user" : "bé"}""", "bé")]
    [InlineData("""{"input":[1]}""", null)]
    [InlineData("""{"user":7}""", null)]
    [InlineData("""{"user":""}""", null)]
    [InlineData("""{"user":"ann""", null)]
    [InlineData("""{"user" """, null)]
    [InlineData("", null)]
    public void User_IsFoundOrNot_WhateverTheBodyIs(string json, string? user) => Assert.Equal(user, RequestPeek.User(Encoding.UTF8.GetBytes(json)));

    [Fact]
    public void Content_SameBytesSameKey_OthersOthers()
    {
        byte[] body = [.. Enumerable.Range(0, 100).Select(i => (byte)i)];
        var other = body.ToArray();
        other[99]++;
        Assert.Equal(RouteKey.OfContent(body), RouteKey.OfContent(body.ToArray()));
        Assert.NotEqual(RouteKey.OfContent(body), RouteKey.OfContent(other));
        Assert.NotEqual(0UL, RouteKey.OfContent([]));
    }
}
