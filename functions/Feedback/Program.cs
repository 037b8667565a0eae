using Microsoft.Extensions.Logging;
using Skiff.Apps;
using Skiff.Aws;
using Skiff.Feedback;
using Skiff.Feedback.Log;
using Skiff.FeedbackFunction;
using Skiff.Lambda;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Serving;
using Skiff.Store;

// Feedback: messages of the queue become heads; schedules wake it for what is due, and for the log. It serves no requests, so ASP.NET is left out.
var lambda = LambdaOptions.Read(Environment.GetEnvironmentVariables())
    ?? throw new SettingException("AWS_LAMBDA_RUNTIME_API is missing: Feedback runs on Lambda only; elsewhere Serve learns from its own queue");
using var logging = LoggerFactory.Create(builder => builder.AddConsoleLog().AddFilter(typeof(FeedbackBatch).FullName, LogLevel.Information).AddFilter(typeof(DueWork).FullName, LogLevel.Information));
var (batch, apps) = await LambdaHosting.InitializeAsync(lambda, () => Task.FromResult(Build()));
await LambdaHosting.RunSqsAsync(lambda, batch.HandleAsync, logging, CancellationToken.None, apps.SettleAsync, batch.WakeAsync);

(FeedbackBatch Batch, AppHost Apps) Build()
{
    var settings = new SettingsReader(Environment.GetEnvironmentVariables(), AwsStores.CacheSetting);
    var time = TimeProvider.System;
    var objects = AwsStores.Objects(settings);
    var store = new ModelStore(objects, time);
    var options = AwsStores.ModelOptions(settings);
    var models = new ModelHost(store, options, time, logging.CreateLogger<ModelHost>());
    var apps = new AppHost(store, models, options.AliasInterval, time, logging.CreateLogger<AppHost>());
    var state = AwsStores.State(settings, time);
    var learner = new FeedbackLearner(apps, state, new FeedbackStatistics(), logging.CreateLogger<FeedbackLearner>());
    var due = new DueWork(apps, state, AwsStores.Queue(settings), new FeedbackLog(objects, state, time), time, logging.CreateLogger<DueWork>());
    return (new FeedbackBatch(learner, apps, due, store, state, time, logging.CreateLogger<FeedbackBatch>()), apps);
}
