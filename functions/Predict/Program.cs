using Skiff.Aws;
using Skiff.Azure;
using Skiff.Feedback;
using Skiff.Lambda;
using Skiff.Routing;
using Skiff.Serving;

// Predict: HTTP. On Lambda the Runtime API brings the requests; under an Azure Functions host, that host does, and items of its queue too; elsewhere Kestrel does, for rehearsal.
var lambda = LambdaOptions.Read(Environment.GetEnvironmentVariables());
var app = await LambdaHosting.InitializeAsync(lambda, BuildAsync);
await app.RunAsync();

async Task<WebApplication> BuildAsync()
{
    var settings = new SettingsReader(Environment.GetEnvironmentVariables(), AwsStores.CacheSetting, "SKIFF_PRELOAD", "SKIFF_RESPONSE_STREAMING", HeavyTier.Setting);
    var logging = LoggerFactory.Create(builder => builder.AddConsoleLog());

    // Whoever can reach a function is not this machine: there are no callers without a key, and every instance must open what another has sealed.
    if (settings.Keys.IsEmpty) throw new SettingException($"SKIFF_API_KEYS is missing: it takes {ApiKeys.Form}");
    var secrets = settings.Secrets ?? throw new SettingException("SKIFF_SECRET is missing: it takes at least 16 characters, the same for every instance");
    var state = AwsStores.State(settings, TimeProvider.System);
    var engine = new Engine(new EngineParts
    {
        Objects = AwsStores.Objects(settings),
        State = state,
        Queue = AwsStores.Queue(settings),
        Keys = settings.Keys,
        Secrets = secrets,
        Heavy = SettingsReader.Heavy(settings.Value(HeavyTier.Setting), secrets, state, isFunction: true),
        Models = AwsStores.ModelOptions(settings),
        PredictionCacheBytes = settings.PredictionCacheBytes,
        HeadCacheBytes = settings.HeadCacheBytes,
        IsFunction = true,
        Logging = logging,
    });
    // The store is asked while the web host is put together; the first request waits for whichever takes longer.
    var preload = engine.PreloadAsync(settings.Keys.Tenants, settings.Names("SKIFF_PRELOAD"));

    var builder = WebApplication.CreateSlimBuilder(args).AddLambdaHosting(lambda).AddAzureHosting();
    builder.Services.AddSingleton(logging);
    builder.WebHost.ConfigureKestrel(kestrel => kestrel.Limits.MaxRequestBodySize = settings.MaxBodyBytes);
    var web = builder.Build();
    engine.Map(web);
    web.SettleAfterEach(engine.SettleAsync);
    web.MapQueue("feedback", (item, cancellation) => engine.Learner.LearnAsync([FeedbackMessage.Read(item.Json.Span)], cancellation));
    // An instance that is started ahead is frozen when it asks for its first event, in the middle of a download if there is one.
    if (lambda is { IsProvisioned: true }) await preload;
    return web;
}
