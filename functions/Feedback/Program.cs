using Microsoft.Extensions.Logging;
using Skiff.Apps;
using Skiff.Aws;
using Skiff.Feedback;
using Skiff.FeedbackFunction;
using Skiff.Lambda;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Serving;
using Skiff.Store;

// Feedback: messages of the queue become heads. It serves no requests, so ASP.NET is left out.
var lambda = LambdaOptions.Read(Environment.GetEnvironmentVariables())
    ?? throw new SettingException("AWS_LAMBDA_RUNTIME_API is missing: Feedback runs on Lambda only; elsewhere Serve learns from its own queue");
using var logging = LoggerFactory.Create(builder => builder.AddConsoleLog().AddFilter(typeof(FeedbackBatch).FullName, LogLevel.Information));
var (batch, apps) = await LambdaHosting.InitializeAsync(lambda, () => Task.FromResult(Build()));
await LambdaHosting.RunSqsAsync(lambda, batch.HandleAsync, logging, CancellationToken.None, apps.SettleAsync);

(FeedbackBatch Batch, AppHost Apps) Build()
{
    var settings = new SettingsReader(Environment.GetEnvironmentVariables(), AwsStores.CacheSetting);
    var time = TimeProvider.System;
    var store = new ModelStore(AwsStores.Objects(settings), time);
    var options = AwsStores.ModelOptions(settings);
    var models = new ModelHost(store, options, time, logging.CreateLogger<ModelHost>());
    var apps = new AppHost(store, models, options.AliasInterval, time, logging.CreateLogger<AppHost>());
    var state = AwsStores.State(settings, time);
    var learner = new FeedbackLearner(apps, state, new FeedbackStatistics(), logging.CreateLogger<FeedbackLearner>());
    return (new FeedbackBatch(learner, state, logging.CreateLogger<FeedbackBatch>()), apps);
}
