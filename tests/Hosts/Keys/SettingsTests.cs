using System.Diagnostics;
using Skiff.Serve;
using Skiff.Serving;
using Skiff.Support;

namespace Skiff.Hosts.Keys;

/// <summary>What the server reads at its start: addresses and environment, with errors that name the setting and what it takes.</summary>
public sealed class SettingsTests
{
    [Theory]
    [InlineData("http://0.0.0.0:8080")]
    [InlineData("http://[::]:8080")]
    [InlineData("http://*:8080")]
    [InlineData("http://+:8080")]
    [InlineData("http://example.com:8080")]
    [InlineData("http://192.168.1.2:8080")]
    [InlineData("http://127.0.0.1.example.com:8080")]
    [InlineData("http://localhost.example.com:8080")]
    [InlineData("http://127.0.0.1:8080;http://0.0.0.0:8081")]
    [InlineData("http://[127.0.0.1]:8080")]
    public void BeyondLoopbackWithoutKeys_IsRefused(string urls)
    {
        var refused = Assert.Throws<SettingException>(() => Read(urls));

        Assert.Contains(urls.Split(';')[^1], refused.Message, StringComparison.Ordinal);
        Assert.Contains("SKIFF_API_KEYS", refused.Message, StringComparison.Ordinal);
        Assert.Contains("127.0.0.1", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void BeyondLoopbackByAspNetsVariableWithoutKeys_IsRefused()
    {
        Assert.Throws<SettingException>(() => Read(null, ("ASPNETCORE_URLS", "http://0.0.0.0:8080")));
    }

    [Theory]
    [InlineData("http://127.0.0.1:8080")]
    [InlineData("http://127.0.0.2:8080")]
    [InlineData("http://localhost:8080")]
    [InlineData("http://LOCALHOST:8080")]
    [InlineData("http://[::1]:8080")]
    [InlineData("http://127.0.0.1:8080; http://[::1]:8080")]
    public void LoopbackWithoutKeys_IsAllowed(string urls)
    {
        Assert.Equal(urls, Read(urls).Urls);
    }

    [Theory]
    [InlineData("http://0.0.0.0:8080")]
    [InlineData("http://[::]:8080")]
    [InlineData("http://*:8080")]
    [InlineData("http://example.com:8080")]
    public void BeyondLoopbackWithKeys_IsAllowed(string urls)
    {
        Assert.Equal(urls, Read(urls, ("SKIFF_API_KEYS", ApiKeys.Create("acme", Scopes.Predict).Entry)).Urls);
    }

    [Theory]
    [InlineData("")]
    [InlineData(" ; ")]
    [InlineData("127.0.0.1:8080")]
    [InlineData("8080")]
    [InlineData("https://127.0.0.1:8080")]
    [InlineData("http://127.0.0.1:99999")]
    [InlineData("http://127.0.0.1:8080/path")]
    [InlineData("http://localhost:0")]
    [InlineData("http://127.0.0.1:8099?x=1")]
    [InlineData("http://127.0.0.1:")]
    [InlineData("http://a b:8099")]
    public void UrlsThatAreNone_AreRefused(string urls)
    {
        var refused = Assert.Throws<SettingException>(() => Read(urls));

        Assert.Contains("--urls", refused.Message, StringComparison.Ordinal);
        Assert.Contains("http", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task EndpointsOfAspNetsConfiguration_AreNotListenedOn()
    {
        using var data = new ScratchFolder();
        var dotnet = Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") is { Length: > 0 } path ? path : "dotnet";
        string[] arguments = [Path.Combine(AppContext.BaseDirectory, "skiff.dll"), "--no-samples", "--data", data.Path, "--urls", "http://127.0.0.1:0"];
        var start = new ProcessStartInfo(dotnet, arguments) { RedirectStandardOutput = true, Environment = { ["Kestrel__Endpoints__Http__Url"] = "http://127.0.0.2:0" } };
        using var process = Process.Start(start)!;
        try
        {
            using var deadline = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
            deadline.CancelAfter(TimeSpan.FromSeconds(30));
            string? line;
            do line = await process.StandardOutput.ReadLineAsync(deadline.Token);
            while (line?.Contains("listens on", StringComparison.Ordinal) == false);

            Assert.Contains("listens on http://127.0.0.1:", line, StringComparison.Ordinal);
            Assert.DoesNotContain("127.0.0.2", line, StringComparison.Ordinal);
        }
        finally
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
    }

    [Fact]
    public void NoUrls_MeansLoopback()
    {
        Assert.Equal("http://127.0.0.1:8080", Read(null).Urls);
    }

    [Theory]
    [InlineData("SKIFF_PORT")]
    [InlineData("SKIFF_API_KEY")]
    [InlineData("SKIFF_model_store")]
    public void UnknownVariable_IsRefusedWithTheKnownOnes(string name)
    {
        var refused = Assert.Throws<SettingException>(() => Read(null, (name, "1")));

        Assert.Contains($"unknown setting {name}", refused.Message, StringComparison.Ordinal);
        Assert.Contains("SKIFF_API_KEYS", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("SKIFF_MODEL_STORE", "s3://", "s3://BUCKET/PREFIX or file:///PATH")]
    [InlineData("SKIFF_MODEL_STORE", "gs://bucket", "s3://BUCKET/PREFIX or file:///PATH")]
    [InlineData("SKIFF_MODEL_STORE", "/models", "file:///PATH")]
    [InlineData("SKIFF_MODEL_STORE", "file://relative", "file:///PATH")]
    [InlineData("SKIFF_MODEL_STORE", "file:///", "file:///PATH")]
    [InlineData("SKIFF_STATE", "dynamo://table", "sqlite:///PATH or dynamodb://TABLE")]
    [InlineData("SKIFF_STATE", "sqlite://state.db", "sqlite:///PATH or dynamodb://TABLE")]
    [InlineData("SKIFF_QUEUE", "https://queue", "sqlite:///PATH or sqs://ACCOUNT/NAME.fifo")]
    [InlineData("SKIFF_MODEL_CACHE_MB", "all", "0 to 1048576")]
    [InlineData("SKIFF_MODEL_MEMORY_MB", "2GB", "16 to 1048576")]
    [InlineData("SKIFF_MODEL_MEMORY_MB", "15", "16 to 1048576")]
    [InlineData("SKIFF_MODEL_MEMORY_MB", "99999999999999999999", "16 to 1048576")]
    [InlineData("SKIFF_PREDICTION_CACHE_MB", "off", "0 to 1048576")]
    [InlineData("SKIFF_HEAD_CACHE_MB", "-1", "0 to 1048576")]
    [InlineData("SKIFF_MAX_BODY_BYTES", "-1", "1024 to 1073741824")]
    [InlineData("SKIFF_MAX_BODY_BYTES", "1e6", "1024 to 1073741824")]
    [InlineData("SKIFF_MAX_BODY_BYTES", "1073741825", "1024 to 1073741824")]
    public void BadValue_IsRefusedWithWhatTheVariableTakes(string name, string value, string takes)
    {
        var refused = Assert.Throws<SettingException>(() => Read(null, (name, value)));

        Assert.Contains(name, refused.Message, StringComparison.Ordinal);
        Assert.Contains($"'{value}'", refused.Message, StringComparison.Ordinal);
        Assert.Contains(takes, refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("acme")]
    [InlineData("acme:predict:sha256:12345678")]
    [InlineData("acme:predict:md5:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    [InlineData("ac me:predict:sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    [InlineData("acme:predict:sha256:zz86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    [InlineData(":predict:sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    [InlineData("acme:write:sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    [InlineData("acme::sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    public void MalformedKeyEntry_IsRefusedWithoutItsHash(string entry)
    {
        var refused = Assert.Throws<SettingException>(() => Read(null, ("SKIFF_API_KEYS", entry)));

        Assert.Contains("SKIFF_API_KEYS", refused.Message, StringComparison.Ordinal);
        Assert.Contains("predict", refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("86d081884c7d", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void SecondMalformedKeyEntry_IsNamedByItsPlace()
    {
        var refused = Assert.Throws<SettingException>(() => Read(null, ("SKIFF_API_KEYS", $"{ApiKeys.Create("acme", Scopes.All).Entry},acme")));

        Assert.Contains("entry 2", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("short")]
    [InlineData("long enough a secret,short")]
    [InlineData(",")]
    public void ShortSecret_IsRefusedWithoutShowingIt(string value)
    {
        var refused = Assert.Throws<SettingException>(() => Read(null, ("SKIFF_SECRET", value)));

        Assert.Contains("SKIFF_SECRET", refused.Message, StringComparison.Ordinal);
        Assert.Contains("at least 16 characters", refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("short", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void EmptyVariables_AreUnset()
    {
        var settings = Read(null, ("SKIFF_API_KEYS", ""), ("SKIFF_SECRET", ""), ("SKIFF_MODEL_STORE", ""), ("SKIFF_MAX_BODY_BYTES", ""));

        Assert.True(settings.Keys.IsEmpty);
        Assert.Null(settings.Secrets);
        Assert.Equal(Path.Combine(settings.Data, "models"), settings.ModelStore.Place);
    }

    private static Settings Read(string? urls, params (string Name, string Value)[] environment) =>
        Settings.Read("data", urls, environment.ToDictionary(pair => pair.Name, pair => pair.Value));
}
