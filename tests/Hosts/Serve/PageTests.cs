using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using Skiff.Support;

namespace Skiff.Hosts.Serve;

public sealed partial class PageTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Dashboard_MayRunItsOwnScriptAndStyleAndNothingElse()
    {
        await using var server = await SkiffServer.StartAsync();
        using var response = await server.Client.GetAsync("/", Cancel);
        var page = await response.Content.ReadAsStringAsync(Cancel);

        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal("text/html; charset=utf-8", response.Content.Headers.ContentType?.ToString());
        Assert.Equal("nosniff", Header(response, "X-Content-Type-Options"));
        Assert.Equal("no-referrer", Header(response, "Referrer-Policy"));
        Assert.Equal(
            $"default-src 'none'; script-src {HashOf(Script().Match(page))}; style-src {HashOf(Style().Match(page))}; connect-src 'self'; img-src data:; "
            + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            Header(response, "Content-Security-Policy"));
        Assert.Equal(1, page.Split("<script").Length - 1);
        Assert.Equal(1, page.Split("<style").Length - 1);
        Assert.DoesNotMatch(InlineCode(), Script().Replace(page, ""));
    }

    [Fact]
    public async Task Dashboard_RefersToNoOtherHost()
    {
        await using var server = await SkiffServer.StartAsync();
        var page = await server.Client.GetStringAsync("/", Cancel);

        Assert.DoesNotMatch(OtherHost(), page);
    }

    [Fact]
    public async Task Dashboard_TakesTextFromTheServerAsTextOnly()
    {
        await using var server = await SkiffServer.StartAsync();
        var page = await server.Client.GetStringAsync("/", Cancel);

        Assert.DoesNotMatch(TextAsCode(), page);
    }

    [Fact]
    public async Task ServerWithKeys_ServesThePagesToEverybody()
    {
        var (_, entry) = Serving.ApiKeys.Create("acme", Serving.Scopes.Predict);
        await using var server = await SkiffServer.StartAsync(environment: ("SKIFF_API_KEYS", entry));

        foreach (var path in new[] { "/", "/openapi/v1.json" })
        {
            using var response = await server.Client.GetAsync(path, Cancel);
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        }
    }

    private static string Header(HttpResponseMessage response, string name) => string.Join("; ", response.Headers.GetValues(name));

    private static string HashOf(Match element)
    {
        Assert.True(element.Success);
        return $"'sha256-{Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(element.Groups[1].Value)))}'";
    }

    [GeneratedRegex("<script>(.*?)</script>", RegexOptions.Singleline)]
    private static partial Regex Script();

    [GeneratedRegex("<style>(.*?)</style>", RegexOptions.Singleline)]
    private static partial Regex Style();

    // Attributes that the policy would keep from working.
    [GeneratedRegex("""\s(style|on[a-z]+)\s*=""")]
    private static partial Regex InlineCode();

    [GeneratedRegex("""\b(https?|wss?|ftp):|["'`(=]//|@import""", RegexOptions.IgnoreCase)]
    private static partial Regex OtherHost();

    [GeneratedRegex("""innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|DOMParser|createContextualFragment|\beval\b|new Function|srcdoc""")]
    private static partial Regex TextAsCode();
}
