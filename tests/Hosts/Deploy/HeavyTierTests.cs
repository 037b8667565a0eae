using System.Text.Json;
using System.Text.RegularExpressions;
using Skiff.Support;
using YamlDotNet.RepresentationModel;

namespace Skiff.Hosts.Deploy;

/// <summary>Holds gpu-tier.yaml to the program that it runs, and to the template that nests it.</summary>
public sealed partial class HeavyTierTests
{
    private static readonly Template Outer = Template.Read();
    private static readonly Template Tier = Template.Read("infrastructure/deploy/gpu-tier.yaml");

    [Fact]
    public async Task Variables_AreSetOrLeftOnPurposeAndAllKnown()
    {
        var refused = await SkiffProcess.RunHeavyAsync([("SKIFF_UNKNOWN", "1")]);
        var known = Variable().Matches(refused.Error).Select(match => match.Value).Where(name => name != "SKIFF_UNKNOWN");
        var container = ((YamlSequenceNode)Tier["Resources", "Task", "Properties", "ContainerDefinitions"])[0];
        var set = from list in new[] { "Environment", "Secrets" } from variable in (YamlSequenceNode)container[list] select Template.Text(variable["Name"]);

        string[] left =
        [
            "SKIFF_STATE", "SKIFF_ADDRESS", // callers find it by name
            "SKIFF_QUEUE", "SKIFF_PREDICTION_CACHE_MB", "SKIFF_HEAD_CACHE_MB", // of hosts with apps
            "SKIFF_API_KEYS", // its callers sign
            "SKIFF_MODEL_CACHE_MB", "SKIFF_MAX_BODY_BYTES",
        ];
        Assert.Equal(known.Order(), set.Concat(left).Order());
    }

    [Fact]
    public void Parameters_AreThoseThatTheNestingTemplateGives_AndItsOutputsThoseThatItTakes()
    {
        var given = ((YamlMappingNode)Outer["Resources", "HeavyTier", "Properties", "Parameters"]).Children.Keys.Select(Template.Text);
        Assert.Equal(((YamlMappingNode)Tier["Parameters"]).Children.Keys.Select(Template.Text).Order(), given.Order());

        var outputs = ((YamlMappingNode)Tier["Outputs"]).Children.Keys.Select(Template.Text);
        var taken = Output().Matches(File.ReadAllText(Path.Combine(Repository.Root, "template.yaml"))).Select(match => match.Groups["name"].Value).Distinct();
        Assert.Equal(outputs.Order(), taken.Order());
        Assert.Equal("infrastructure/deploy/gpu-tier.yaml", Template.Text(Outer["Resources", "HeavyTier", "Properties", "TemplateURL"]));
    }

    [Fact]
    public void Replicas_MayReadModelsAndNothingElse()
    {
        Assert.Equal(["s3:GetObject on !Sub arn:${AWS::Partition}:s3:::${Models}/*", "s3:ListBucket on !Sub arn:${AWS::Partition}:s3:::${Models}"], Tier.Permissions("TaskRole").Order());
    }

    [Fact]
    public void Network_HasAnEndpointForEachServiceThatPredictCalls()
    {
        var services = Outer.Permissions("PredictRole").Select(permission => permission.Split(':')[0]).Where(service => service != "logs").Distinct(); // Lambda itself writes the log
        var endpoints = ((YamlMappingNode)Tier["Resources"]).Children.Values.Where(resource => Template.Text(resource["Type"]) == "AWS::EC2::VPCEndpoint").Select(resource => Template.Text(resource["Properties"]["ServiceName"]).Split('.')[^1]);
        Assert.Equal(services.Order(), endpoints.Order());
    }

    [Fact]
    public void EveryReference_NamesWhatIsThere()
    {
        var text = File.ReadAllText(Path.Combine(Repository.Root, "infrastructure", "deploy", "gpu-tier.yaml"));
        var names = new[] { "Parameters", "Resources" }.SelectMany(part => ((YamlMappingNode)Tier[part]).Children.Keys).Select(Template.Text).ToHashSet();
        Assert.Equal([], Reference().Matches(text).Select(match => match.Groups["name"].Value).Where(name => !names.Contains(name) && !name.StartsWith("AWS::", StringComparison.Ordinal)).Distinct());
    }

    [Fact]
    public void LoadIsLogged_AsTheMetricThatScalingGoesBy()
    {
        using var line = JsonDocument.Parse(Skiff.Heavy.HeavyServer.LoadLine("a \"tier\"", 0.71, 3, DateTimeOffset.UnixEpoch));
        var directive = line.RootElement.GetProperty("_aws").GetProperty("CloudWatchMetrics")[0];
        var metric = Tier["Resources", "ScalingByLoad", "Properties", "TargetTrackingScalingPolicyConfiguration", "CustomizedMetricSpecification"];
        var dimension = Template.Text(((YamlSequenceNode)metric["Dimensions"])[0]["Name"]);

        Assert.Equal(Template.Text(metric["Namespace"]), directive.GetProperty("Namespace").GetString());
        Assert.Equal(dimension, directive.GetProperty("Dimensions")[0][0].GetString());
        Assert.Equal("a \"tier\"", line.RootElement.GetProperty(dimension).GetString());
        Assert.Equal(0.71, line.RootElement.GetProperty(Template.Text(metric["MetricName"])).GetDouble());
    }

    [GeneratedRegex("SKIFF_[A-Z_]+")]
    private static partial Regex Variable();

    [GeneratedRegex(@"HeavyTier\.Outputs\.(?<name>\w+)")]
    private static partial Regex Output();

    /// <summary><c>!Ref X</c>, <c>!GetAtt X.Y</c>, and <c>${X}</c> or <c>${X.Y}</c> in a text.</summary>
    [GeneratedRegex(@"(?:!Ref |!GetAtt |\$\{)(?<name>(?:AWS::)?\w+)")]
    private static partial Regex Reference();
}
