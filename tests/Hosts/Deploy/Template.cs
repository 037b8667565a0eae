using Skiff.Support;
using YamlDotNet.RepresentationModel;

namespace Skiff.Hosts.Deploy;

/// <summary>template.yaml as its author wrote it. Of a short form such as <c>!Sub text</c> the tag and the text are there, nothing is resolved.</summary>
internal sealed class Template
{
    private readonly YamlMappingNode _root;

    private Template(YamlMappingNode root) => _root = root;

    public static Template Read(string path = "template.yaml")
    {
        using var reader = File.OpenText(Path.Combine(Repository.Root, path));
        var stream = new YamlStream();
        stream.Load(reader);
        return new Template((YamlMappingNode)stream.Documents[0].RootNode);
    }

    /// <summary>What stands at the end of a path of names.</summary>
    public YamlNode this[params IEnumerable<string> path] => path.Aggregate((YamlNode)_root, (node, name) => node[name]);

    /// <summary>The routes of a function that lead through an HTTP API, as <c>GET /apps</c>.</summary>
    public IEnumerable<string> Routes(string function) =>
        from item in Mapping("Resources", function, "Properties", "Events").Children.Values
        where Text(item["Type"]) == "HttpApi"
        select $"{Text(item["Properties"]["Method"])} {Text(item["Properties"]["Path"])}";

    /// <summary>The function's own variables and those of all.</summary>
    public IEnumerable<string> Variables(string function) =>
        Mapping("Globals", "Function", "Environment", "Variables").Children.Keys
            .Concat(_root["Resources"][function]["Properties"] is YamlMappingNode properties && properties.Children.TryGetValue("Environment", out var own) ? ((YamlMappingNode)own["Variables"]).Children.Keys : [])
            .Select(Text);

    /// <summary>What a role allows, as <c>dynamodb:GetItem on !GetAtt State.Arn</c>.</summary>
    public IEnumerable<string> Permissions(string role) =>
        from policy in (YamlSequenceNode)this["Resources", role, "Properties", "Policies"]
        from statement in (YamlSequenceNode)policy["PolicyDocument"]["Statement"]
        from action in Several(statement["Action"])
        from resource in Several(statement["Resource"])
        select $"{Text(action)} on {resource.Tag} {Text(resource)}";

    public static string Text(YamlNode node) => ((YamlScalarNode)node).Value!;

    private YamlMappingNode Mapping(params IEnumerable<string> path) => (YamlMappingNode)this[path];

    private static IEnumerable<YamlNode> Several(YamlNode node) => node is YamlSequenceNode sequence ? sequence : [node];
}
