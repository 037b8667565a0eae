using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Skiff.Models;
using Skiff.Support;

namespace Skiff.Hosts.Serve;

/// <summary>The program as people start it: processes, their output and exit codes.</summary>
public sealed class CommandLineTests : IDisposable
{
    private const string Ask = """{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[7,8,9]}]}""";

    private static readonly byte[] Model = OnnxBuilder.Identity(DataType.Fp32, -1, 3);
    private static readonly byte[] OtherModel = new OnnxBuilder().Input("x", DataType.Fp32, -1, 3).Output("y", DataType.Fp32, -1, 3).Node("Neg", ["x"], ["y"]).Build();

    private readonly ScratchFolder _folder = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private string Data => _folder["data"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task PushedVersions_AreListedAndTheAliasMovesBack()
    {
        var first = await SucceedAsync("push", Write("a.onnx", Model), "--name", "m");
        Assert.Contains("m: version 1, ", first);
        Assert.Contains("live is version 1", first);
        var second = await SucceedAsync("push", Write("b.onnx", OtherModel), "--name", "m");
        Assert.Contains("m: version 2, ", second);
        Assert.Contains("'skiff alias m 2' makes it live", second);
        var third = await SucceedAsync("push", Write("a.onnx", Model), "--name", "m", "--alias", "live");
        Assert.Contains("live is version 3", third);

        Assert.Contains("m: live moved from version 3 to 2", await SucceedAsync("alias", "m", "2"));
        Assert.Contains("m: canary is version 3", await SucceedAsync("alias", "m", "3", "--alias", "canary"));

        var versions = (await SucceedAsync("versions", "m")).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(["1", "2", "3"], versions.Select(line => line.Trim().Split(' ')[0]));
        Assert.EndsWith("live", versions[1]);
        Assert.EndsWith("canary", versions[2]);
        Assert.Contains($"{Model.Length} bytes", versions[0]);
        var list = await SucceedAsync("list");
        Assert.Contains("m ", list);
        Assert.Contains("versions 1, 2, 3", list);
        Assert.Contains("canary=3, live=2", list);
    }

    [Fact]
    public async Task PushedPriorAndApp_AreListedUnderTheirKinds()
    {
        await SucceedAsync("push", Write("body.onnx", Model), "--name", "body");
        await SucceedAsync("push", Write("prior.json", """{"prior_mean":[[0,1],[1,0],[0,0]],"prior_gram":[[1,0,0],[0,1,0],[0,0,1]]}"""u8.ToArray()), "--name", "prior");
        var app = """{"name":"app","input":{"name":"x","type":"FP32","shape":[3]},"labels":["a","b"],"head":{"features":"body","kind":"classes","prior":"prior"}}""";
        Assert.Contains("app: version 1, ", await SucceedAsync("app", "push", Write("app.json", Encoding.UTF8.GetBytes(app))));

        var list = await SucceedAsync("list");
        Assert.Equal(["model", "prior", "app"], list.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split(' ')[0]));
        Assert.Contains("live", await SucceedAsync("versions", "prior", "--kind", "prior"));
    }

    [Fact]
    public async Task Tenants_HaveTheirOwnModels()
    {
        await SucceedAsync("push", Write("a.onnx", Model), "--name", "m", "--tenant", "acme");

        Assert.Equal("", await SucceedAsync("list"));
        Assert.Contains("m ", await SucceedAsync("list", "--tenant", "acme"));
    }

    [Fact]
    public async Task NewKey_IsShownOnceAndItsEntryOpensAServer()
    {
        var result = await SkiffProcess.RunAsync("key", "new", "--tenant", "acme", "--scope", "predict");
        Assert.Equal(0, result.ExitCode);
        var lines = result.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        var (key, entry) = (lines[0].Split(' ')[^1], lines[1].Split(' ')[^1]);
        Assert.StartsWith("acme:predict:sha256:", entry);
        Assert.DoesNotContain(key, entry);

        await using var server = await SkiffServer.StartAsync(environment: ("SKIFF_API_KEYS", entry));
        Assert.Equal(HttpStatusCode.OK, (await server.GetAsync("/apps", key)).Status);
        Assert.Equal(HttpStatusCode.Unauthorized, (await server.GetAsync("/apps")).Status);
    }

    [Fact]
    public async Task WrongFiles_AreRefusedInOneLine()
    {
        await FailAsync("there is no file", "push", _folder["missing.onnx"], "--name", "m");
        await FailAsync("", "push", Write("text.onnx", "this is no model"u8.ToArray()), "--name", "m");
        await FailAsync("", "push", Write("half.onnx", Model[..(Model.Length / 2)]), "--name", "m");
        await FailAsync("", "push", Write("empty.onnx", []), "--name", "m");
        await FailAsync("a prior has 'prior_mean' and 'prior_gram'", "push", Write("prior.json", """{"weights":[1]}"""u8.ToArray()), "--name", "m");
        await FailAsync("the prior is not a JSON document", "push", Write("half.json", """{"mu":"""u8.ToArray()), "--name", "m");
        await FailAsync("not a valid app document", "app", "push", Write("app.json", """{"name":"app","colour":"red"}"""u8.ToArray()));
        await FailAsync("there is no file", "app", "push", _folder["missing.json"]);

        Assert.Equal("", await SucceedAsync("list"));
    }

    [Fact]
    public async Task WrongNames_AreRefusedInOneLine()
    {
        var file = Write("a.onnx", Model);
        await FailAsync("'../m' is not a valid model name", "push", file, "--name", "../m");
        await FailAsync("'a b' is not a valid alias name", "push", file, "--name", "m", "--alias", "a b");
        await FailAsync("'x/y' is not a valid tenant name", "push", file, "--name", "m", "--tenant", "x/y");
        await FailAsync("there is no model 'm'", "alias", "m", "1");
        await FailAsync("there is no model 'm'", "versions", "m");
        await FailAsync("'.' is not a valid model name", "versions", ".");
        await SucceedAsync("push", file, "--name", "m");
        await FailAsync("'m' has no version 2; it has 1", "alias", "m", "2");
    }

    [Fact]
    public async Task WrongArguments_AreRefusedAndSaySo()
    {
        // The parser's own errors may bring the usage along, on standard output.
        Check(await SkiffProcess.RunAsync("--colour", "red"), "--colour");
        Check(await SkiffProcess.RunAsync("launch"), "launch");
        Check(await SkiffProcess.RunAsync("push", "file.onnx"), "--name");
        Check(await SkiffProcess.RunAsync("alias", "m", "two"), "two");

        static void Check(CommandResult result, string names)
        {
            Assert.Equal(1, result.ExitCode);
            Assert.Contains(names, result.Error);
            Assert.DoesNotContain("   at ", result.Error);
        }
    }

    [Fact]
    public async Task WrongSettings_AreRefusedInOneLineThatNamesThem()
    {
        await FailAsync([("SKIFF_COLOUR", "red")], "unknown setting SKIFF_COLOUR", "serve");
        await FailAsync([("SKIFF_COLOUR", "red")], "unknown setting SKIFF_COLOUR", "list");
        await FailAsync([("SKIFF_MODEL_MEMORY_MB", "lots")], "SKIFF_MODEL_MEMORY_MB is 'lots'", "serve");
        await FailAsync([("SKIFF_MODEL_STORE", "ftp://host/path")], "SKIFF_MODEL_STORE is 'ftp://host/path'", "serve");
        await FailAsync([("SKIFF_STATE", "sqlite://relative.db")], "SKIFF_STATE is 'sqlite://relative.db'", "serve");
        await FailAsync([("SKIFF_QUEUE", "sqs://queue")], "SKIFF_QUEUE: 'sqs://queue' is no queue", "serve");
        await FailAsync([("SKIFF_API_KEYS", "acme")], "SKIFF_API_KEYS", "serve");
        await FailAsync([("SKIFF_SECRET", "short")], "16 characters", "serve", "--urls", "http://127.0.0.1:0");
        await FailAsync("without keys", "serve", "--urls", "http://0.0.0.0:0");
        await FailAsync("--urls has 'nonsense'", "serve", "--urls", "nonsense");
    }

    [Fact]
    public async Task DataFolderThatIsAFile_IsRefusedInOneLine()
    {
        await File.WriteAllTextAsync(Data, "a file", Cancellation);

        await FailAsync(Data, "serve", "--urls", "http://127.0.0.1:0");
        await FailAsync(Data, "push", Write("a.onnx", Model), "--name", "m");
        await FailAsync(Data, "list");
    }

    [Theory]
    [InlineData("state.db")]
    [InlineData("queue.db")]
    [InlineData("secret")]
    public async Task StoreThatCannotBeOpened_IsRefusedInOneLine(string name)
    {
        Directory.CreateDirectory(Path.Combine(Data, name));

        await FailAsync(Path.Combine(Data, name), "serve", "--urls", "http://127.0.0.1:0", "--no-samples");
    }

    [Fact]
    public async Task PortInUse_IsRefusedInOneLineThatNamesIt()
    {
        using var other = new TcpListener(IPAddress.Loopback, 0);
        other.Start();

        await FailAsync($"{other.LocalEndpoint}", "serve", "--no-samples", "--urls", $"http://{other.LocalEndpoint}");
    }

    [Fact]
    public async Task SecondServerOnTheSameData_IsRefusedAndTheFirstGoesOn()
    {
        await using var server = await SkiffProcess.ServeAsync(Data, "--no-samples");

        await FailAsync("Is another server using it?", "serve", "--urls", "http://127.0.0.1:0");

        Assert.Equal("ok\n", await server.Client.GetStringAsync("/healthz", Cancellation));
    }

    [Fact]
    public async Task RunningServer_NoticesPushes()
    {
        await using var server = await SkiffProcess.ServeAsync(Data, "--no-samples");
        await SucceedAsync("push", Write("a.onnx", Model), "--name", "m");
        await Eventually.HoldsAsync("version 1 answers", async () => await InferAsync(server) == ("1", 7), seconds: 5);

        await SucceedAsync("push", Write("b.onnx", OtherModel), "--name", "m", "--alias", "live");
        await Eventually.HoldsAsync("version 2 answers", async () => await InferAsync(server) == ("2", -7), seconds: 5);

        await SucceedAsync("alias", "m", "1");
        await Eventually.HoldsAsync("version 1 answers again", async () => await InferAsync(server) == ("1", 7), seconds: 5);
    }

    [Fact]
    public async Task SecondStart_FindsEverythingAgain()
    {
        string first;
        await using (var server = await SkiffProcess.ServeAsync(Data))
        {
            await SucceedAsync("push", Write("a.onnx", Model), "--name", "m");
            first = await server.Client.GetStringAsync("/apps", Cancellation);
            foreach (var app in new[] { "fashion", "fashion-exits", "digits", "films" }) Assert.Contains($"app {app} (version 1)", server.Output);
            server.Terminate();
            Assert.Equal(0, (await server.WaitAsync()).ExitCode);
        }
        var models = Directory.GetFiles(Path.Combine(Data, "models"), "*", SearchOption.AllDirectories).Order().ToList();
        var secret = await File.ReadAllTextAsync(Path.Combine(Data, "secret"), Cancellation);

        await using var again = await SkiffProcess.ServeAsync(Data);
        Assert.Equal(first, await again.Client.GetStringAsync("/apps", Cancellation));
        Assert.Equal(("1", 7), await InferAsync(again));
        Assert.Equal(models, Directory.GetFiles(Path.Combine(Data, "models"), "*", SearchOption.AllDirectories).Order());
        Assert.Equal(secret, await File.ReadAllTextAsync(Path.Combine(Data, "secret"), Cancellation));
    }

    [Fact]
    public async Task PrintedCurlLines_NameFilesThatAre()
    {
        await using var server = await SkiffProcess.ServeAsync(Data);
        await Eventually.HoldsAsync("everything is printed", () => Task.FromResult(server.Output.Contains("Ctrl-C stops.")));

        var lines = server.Output.Split('\n').Where(line => line.Contains("curl -s ")).ToList();
        Assert.Equal(6, lines.Count);
        foreach (var line in lines)
        {
            var words = line.Trim().Split(' ');
            var body = words[^1] is ['@', .. var file] ? await File.ReadAllTextAsync(Path.GetFullPath(file, Environment.CurrentDirectory), Cancellation) : words[^1].Trim('\'');
            using var content = new StringContent(body, Encoding.UTF8, "application/x-www-form-urlencoded"); // as curl sends it
            using var answer = await server.Client.PostAsync(words[2], content, Cancellation);
            Assert.True(answer.StatusCode == HttpStatusCode.OK, $"{line}: {answer.StatusCode}");
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task SignalledServer_AnswersWhatHasBegunAndEndsWell(bool interrupt)
    {
        await SucceedAsync("push", Write("a.onnx", Model), "--name", "m");
        await using var server = await SkiffProcess.ServeAsync(Data, "--no-samples");
        var body = Encoding.ASCII.GetBytes(Ask);
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, server.Address.Port, Cancellation);
        var stream = client.GetStream();
        using var reader = new StreamReader(stream, Encoding.ASCII);
        await stream.WriteAsync(Encoding.ASCII.GetBytes($"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {body.Length}\r\nExpect: 100-continue\r\n\r\n"), Cancellation);
        // The server says so when it begins to read the body: from now on the request is under way.
        Assert.Equal("HTTP/1.1 100 Continue", await reader.ReadLineAsync(Cancellation));
        await stream.WriteAsync(body.AsMemory(0, 10), Cancellation);

        if (interrupt) server.Interrupt();
        else server.Terminate();
        await Eventually.HoldsAsync("no new connections are taken", async () => !await ConnectsAsync(server.Address.Port));
        await stream.WriteAsync(body.AsMemory(10), Cancellation);

        var answer = await reader.ReadToEndAsync(Cancellation);
        Assert.Contains("HTTP/1.1 200 OK", answer);
        Assert.Matches("""\"data\":\[7(\.0)?,8(\.0)?,9(\.0)?\]""", answer);
        var result = await server.WaitAsync();
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.Contains("stopping", result.Output);
    }

    /// <returns>Which version answered 7 with what.</returns>
    private static async Task<(string Version, float Value)> InferAsync(SkiffProcess server)
    {
        using var response = await server.Client.PostAsync("/v2/models/m/infer", new StringContent(Ask), Cancellation);
        var text = await response.Content.ReadAsStringAsync(Cancellation);
        Assert.True(response.StatusCode == HttpStatusCode.OK, $"{response.StatusCode} {text}");
        var answer = JsonDocument.Parse(text).RootElement;
        return (answer.GetProperty("model_version").GetString()!, answer.GetProperty("outputs")[0].GetProperty("data")[0].GetSingle());
    }

    private static async Task<bool> ConnectsAsync(int port)
    {
        using var client = new TcpClient();
        try
        {
            await client.ConnectAsync(IPAddress.Loopback, port, Cancellation);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private string Write(string name, byte[] content)
    {
        File.WriteAllBytes(_folder[name], content);
        return _folder[name];
    }

    private async Task<string> SucceedAsync(params string[] arguments)
    {
        var result = await SkiffProcess.RunAsync([.. arguments, "--data", Data]);
        Assert.True(result is { ExitCode: 0, Error: "" }, $"{result.ExitCode}: {result.Error}");
        return result.Output;
    }

    private Task FailAsync(string says, params string[] arguments) => FailAsync([], says, arguments);

    private async Task FailAsync((string, string)[] environment, string says, params string[] arguments)
    {
        var result = await SkiffProcess.RunAsync(environment, [.. arguments, "--data", Data]);
        var what = string.Create(CultureInfo.InvariantCulture, $"{string.Join(' ', arguments)} → {result.ExitCode}: {result.Output}{result.Error}");
        Assert.True(result.ExitCode == 1, what);
        Assert.True(result.ErrorLines is [var line] && line.StartsWith("skiff: ", StringComparison.Ordinal) && line.Contains(says, StringComparison.Ordinal), what);
        Assert.True(result.Output == "", what);
    }
}
