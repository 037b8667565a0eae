using Amazon.S3;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Skiff.Benchmarks.Baseline;
using Skiff.Lambda;

// BUCKET/KEY of a model, fetched at the start, and one route that runs it.
var builder = WebApplication.CreateSlimBuilder(args).AddLambdaHosting();
builder.Logging.SetMinimumLevel(LogLevel.Warning);
BaselineEndpoint.AddJson(builder.Services);

var place = Environment.GetEnvironmentVariable("MODEL")!.Split('/', 2);
using var s3 = new AmazonS3Client(new AmazonS3Config { ForcePathStyle = true });
using var found = await s3.GetObjectAsync(place[0], place[1]);
using var model = new MemoryStream();
await found.ResponseStream.CopyToAsync(model);

var app = builder.Build();
BaselineEndpoint.Map(app, Path.GetFileNameWithoutExtension(place[1]), model.ToArray());
app.Run();
