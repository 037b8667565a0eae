using System.Net;
using Skiff.Support;

namespace Skiff.Hosts.Keys;

/// <summary>Without keys, pages that a browser on this machine shows must not be able to call.</summary>
public sealed class ForeignPageTests
{
    [Theory]
    [InlineData("Origin", "http://evil.example")]
    [InlineData("Origin", "null")]
    [InlineData("Origin", "http://127.0.0.1:1")]
    [InlineData("Host", "evil.example")]
    [InlineData("Host", "evil.example:8080")]
    [InlineData("Host", "127.0.0.1.evil.example")]
    public async Task CallFromAForeignPage_IsRefused(string header, string value)
    {
        await using var server = await SkiffServer.StartAsync();

        Assert.Equal(HttpStatusCode.Forbidden, await GetAsync(server, header, value));
    }

    [Theory]
    [InlineData("localhost")]
    [InlineData("127.0.0.1:9999")]
    [InlineData("[::1]")]
    public async Task CallThatNamesThisMachine_IsAnswered(string host)
    {
        await using var server = await SkiffServer.StartAsync();

        Assert.Equal(HttpStatusCode.OK, await GetAsync(server, "Host", host));
    }

    [Fact]
    public async Task CallFromOurOwnPage_IsAnswered()
    {
        await using var server = await SkiffServer.StartAsync();

        Assert.Equal(HttpStatusCode.OK, await GetAsync(server, "Origin", server.Client.BaseAddress!.GetLeftPart(UriPartial.Authority)));
    }

    private static async Task<HttpStatusCode> GetAsync(SkiffServer server, string header, string value)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/apps");
        Assert.True(request.Headers.TryAddWithoutValidation(header, value));
        return (await server.SendAsync(request)).Status;
    }
}
