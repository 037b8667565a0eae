using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Skiff.Support;

namespace Skiff.Hosts.Serve;

/// <summary>The README's first session, line by line against a new server: what it shows must be what comes back, apart from ids, times and costs.</summary>
public sealed partial class ReadmeTests
{
    private const string Address = "http://127.0.0.1:8080";
    private static readonly string[] Volatile = ["id", "cost_usd", "latency_ms"];

    [Fact]
    public async Task FirstSession_AnswersAsTheReadmeShows()
    {
        await using var server = await SkiffServer.StartAsync(samples: true);
        var lines = File.ReadAllLines(Path.Combine(Repository.Root, "README.md"));
        var played = 0;
        for (var i = 0; i < lines.Length; i++)
        {
            var command = Curl().Match(lines[i]);
            if (!command.Success) continue;
            var answer = await SendAsync(server, command.Groups["path"].Value, command.Groups["body"].Value);
            Assert.True(JsonNode.DeepEquals(Steady(JsonNode.Parse(lines[i + 1])!), Steady(answer)), $"README line {i + 2}: {lines[i]}\nshows  {lines[i + 1]}\nanswer {answer.ToJsonString()}");
            played++;
        }
        Assert.Equal(8, played);
    }

    private static async Task<JsonNode> SendAsync(SkiffServer server, string path, string body)
    {
        var content = body.StartsWith('@') ? await File.ReadAllTextAsync(Path.Combine(Repository.Root, body[1..])) : body.Trim('\'');
        using var response = body.Length == 0 ? await server.Client.GetAsync(path) : await server.Client.PostAsync(path, new StringContent(content));
        return (await response.Content.ReadFromJsonAsync<JsonNode>())!;
    }

    /// <summary>Without what differs from run to run; numbers rounded to what any machine's arithmetic agrees on.</summary>
    private static JsonNode? Steady(JsonNode? node)
    {
        switch (node)
        {
            case JsonObject members:
                foreach (var name in Volatile) members.Remove(name);
                foreach (var (name, value) in members.ToList()) members[name] = Steady(value?.DeepClone());
                return members;
            case JsonArray elements:
                return new JsonArray([.. elements.Select(element => Steady(element?.DeepClone()))]);
            case JsonValue value when value.GetValueKind() == JsonValueKind.Number:
                return JsonValue.Create(Math.Round(double.Parse(value.ToJsonString(), System.Globalization.CultureInfo.InvariantCulture), 3));
            default:
                return node;
        }
    }

    [GeneratedRegex(@"^\$ curl -s " + Address + @"(?<path>\S+)(?: -d (?<body>@\S+|'.*'))?$")]
    private static partial Regex Curl();
}
