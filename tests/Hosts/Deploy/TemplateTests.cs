using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Skiff.Support;

namespace Skiff.Hosts.Deploy;

/// <summary>Holds template.yaml to the code: what a linter can't see, because it knows only one of the two.</summary>
public sealed partial class TemplateTests
{
    private static readonly Template Template = Template.Read();

    [Fact]
    public async Task HttpApi_HasEveryRouteOfTheEngineAndNothingMore()
    {
        await using var server = await SkiffServer.StartAsync();

        var mapped =
            from endpoint in server.Server.Endpoints.OfType<RouteEndpoint>()
            from method in endpoint.Metadata.GetRequiredMetadata<IHttpMethodMetadata>().HttpMethods
            select $"{method} /{endpoint.RoutePattern.RawText?.TrimStart('/')}";
        Assert.Equal(mapped.Order(), Template.Routes("Predict").Order());
    }

    [Theory]
    [InlineData("Predict")]
    [InlineData("Feedback")]
    public async Task Variables_AreSetOrLeftOnPurposeAndAllKnown(string function)
    {
        // A function names all that it knows when it meets one that it doesn't.
        await using var api = await LambdaRuntimeApi.StartAsync();
        await using var process = new FunctionProcess(function, api, ("SKIFF_UNKNOWN", "1"));
        var report = await api.InitError.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        var message = report.Json.GetProperty("errorMessage").GetString()!;
        var known = Variable().Matches(message).Select(match => match.Value).Where(name => name != "SKIFF_UNKNOWN");

        Assert.Equal(known.Order(), Template.Variables(function).Concat(Expected.Defaults(function)).Order());
    }

    [Theory]
    [InlineData("Predict")]
    [InlineData("Feedback")]
    public void Role_AllowsWhatTheFunctionCallsAndNothingMore(string function)
    {
        var needed = Expected.Calls.Where(call => call.Functions.Contains(function)).Select(call => call.Permission).Concat(Expected.OfLambda(function)).Distinct();

        Assert.Equal(needed.Order(), Template.Permissions(function + "Role").Order());
        Assert.Equal($"{function}Role.Arn", Template.Text(Template["Resources", function, "Properties", "Role"]));
    }

    [Fact]
    public void Calls_ThatTheRolesAreMeasuredBy_AreThoseInTheCode()
    {
        var sources = Directory.GetFiles(Path.Combine(Repository.Root, "infrastructure", "Aws"), "*.cs").Select(File.ReadAllText);
        var made = sources.SelectMany(source => Call().Matches(source)).Select(match => match.Groups["call"].Value).Distinct();

        Assert.Equal(Expected.Calls.Select(call => call.Call).Distinct().Order(), made.Order());
    }

    [Fact]
    public void Table_HasTheKeysAndTheExpiryOfTheCode()
    {
        var table = Template["Resources", "State", "Properties"];

        Assert.Equal(["pk HASH", "sk RANGE"], from key in (YamlDotNet.RepresentationModel.YamlSequenceNode)table["KeySchema"] select $"{Template.Text(key["AttributeName"])} {Template.Text(key["KeyType"])}");
        Assert.Equal("expires", Template.Text(table["TimeToLiveSpecification"]["AttributeName"]));
    }

    [Fact]
    public void Queue_HidesAMessageForSixTimesTheTimeout()
    {
        var visible = int.Parse(Template.Text(Template["Resources", "Queue", "Properties", "VisibilityTimeout"]));
        var timeout = int.Parse(Template.Text(Template["Resources", "Feedback", "Properties", "Timeout"]));

        Assert.True(visible >= 6 * timeout, $"{visible} s is less than 6 × {timeout} s: a batch may come again while it is learnt");
    }

    [GeneratedRegex("SKIFF_[A-Z_]+")]
    private static partial Regex Variable();

    /// <summary>Of the SDK's clients, and of ours for SQS, whose calls name the operation.</summary>
    [GeneratedRegex("""\b(?:_s3|client)\.(?<call>\w+)Async\(|CallAsync\("[a-z ]+", "(?<call>\w+)",""")]
    private static partial Regex Call();
}
