using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Skiff.Serving;

/// <summary>
/// Parts of the path as the caller escaped them. Of <c>Request.Path</c> one can't tell <c>a%2Fb</c> from <c>a%252Fb</c>: it is decoded, all but for slashes, so that both are <c>a%2Fb</c> there.
/// </summary>
internal static class RawPath
{
    /// <param name="fromEnd">Which part: 1 for the last.</param>
    /// <returns>The part, unescaped once.</returns>
    /// <exception cref="RequestException">The path is not in its plain form: it has <c>.</c> or <c>..</c> at its end, say, and the part that was routed is another.</exception>
    public static string Part(HttpContext http, int fromEnd)
    {
        var target = http.Features.GetRequiredFeature<IHttpRequestFeature>().RawTarget;
        var path = (target.IndexOf('?') is >= 0 and var query ? target[..query] : target).TrimEnd('/');
        var parts = path.Split('/');
        var tail = "/" + string.Join('/', parts[^Math.Min(fromEnd, parts.Length)..]);
        if (http.Request.Path.Value?.TrimEnd('/').EndsWith(PathString.FromUriComponent(tail).Value!, StringComparison.Ordinal) != true) throw RequestException.Invalid("the path is not in its plain form: escape each part of it once, and leave out . and ..");
        return Uri.UnescapeDataString(parts[^fromEnd]);
    }
}
