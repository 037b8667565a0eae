using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Skiff.Serving;

/// <summary>The pages that come with the engine: the dashboard, and the description of the API. They hold nobody's data and take no key; what the dashboard shows it asks for itself.</summary>
internal sealed class PageEndpoints(Gateway gateway)
{
    // Read when first asked for: a function's cold start does without.
    private readonly Lazy<Page> _dashboard = new(() => Page.Read("dashboard.html", "text/html; charset=utf-8"));
    private readonly Lazy<Page> _openApi = new(() => Page.Read("openapi.json", Gateway.Json));

    public void Map(IEndpointRouteBuilder routes)
    {
        routes.MapGet("/", gateway.Open(http => SendAsync(http, _dashboard.Value)));
        routes.MapGet("/openapi/v1.json", gateway.Open(http => SendAsync(http, _openApi.Value)));
    }

    private static async Task SendAsync(HttpContext http, Page page)
    {
        var headers = http.Response.Headers;
        headers.ContentType = page.ContentType;
        headers.ContentLength = page.Content.Length;
        headers.ContentSecurityPolicy = page.Policy;
        headers.XContentTypeOptions = "nosniff";
        headers["Referrer-Policy"] = "no-referrer";
        headers.CacheControl = "no-cache";
        await http.Response.BodyWriter.WriteAsync(page.Content, http.RequestAborted);
    }

    /// <param name="Policy">What a browser may do with it: run its own script and style, known by their hashes, and talk to this server.</param>
    private sealed record Page(byte[] Content, string ContentType, string Policy)
    {
        public static Page Read(string name, string contentType)
        {
            using var stream = typeof(Page).Assembly.GetManifestResourceStream("Pages/" + name) ?? throw new InvalidOperationException($"the page '{name}' is not in the assembly");
            using var reader = new StreamReader(stream);
            // Browsers hash a script with \n at its line ends, however it was checked out.
            var text = reader.ReadToEnd().ReplaceLineEndings("\n");
            var policy = $"default-src 'none'; script-src {HashOf(text, "script")}; style-src {HashOf(text, "style")}; connect-src 'self'; img-src data:; "
                + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
            return new Page(Encoding.UTF8.GetBytes(text), contentType, policy);
        }

        private static string HashOf(string text, string element)
        {
            var start = text.IndexOf($"<{element}>", StringComparison.Ordinal);
            if (start < 0) return "'none'";
            start += element.Length + 2;
            var content = text[start..text.IndexOf($"</{element}>", start, StringComparison.Ordinal)];
            return $"'sha256-{Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(content)))}'";
        }
    }
}
