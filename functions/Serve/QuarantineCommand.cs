using System.CommandLine;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Serving;

namespace Skiff.Serve;

/// <summary><c>skiff quarantine</c>: what was accepted and could not be learnt; to be looked at, and learnt after all.</summary>
internal static class QuarantineCommand
{
    public static void Add(RootCommand root, Option<string> data, Option<string> tenant)
    {
        var app = new Argument<string>("APP");
        var anyApp = new Argument<string?>("APP") { Description = "Without it: messages that name no app, because they are no feedback", Arity = ArgumentArity.ZeroOrOne };
        var id = new Option<string?>("--id") { Description = "The feedback with this id" };
        var reason = new Option<string?>("--reason") { Description = "Feedback whose reason begins so" };

        var list = new Command("list", "List what is in quarantine, and why") { anyApp, reason };
        list.SetAction((arguments, cancellation) => Failures.ReportAsync(async () =>
        {
            await using var learning = await LearningHost.OpenAsync(arguments.GetRequiredValue(data));
            var count = 0;
            await foreach (var kept in FindAsync(learning, arguments.GetRequiredValue(tenant), arguments.GetValue(anyApp), null, arguments.GetValue(reason), cancellation))
            {
                Console.WriteLine($"{kept.Committed:u}  {kept.Accepted.Message.FeedbackId,-36}  {Reason(kept.Accepted)}");
                count++;
            }
            Console.WriteLine(count == 0 ? "nothing is in quarantine" : $"{count} in quarantine");
            return 0;
        }));

        var show = new Command("show", "Show feedback in quarantine whole, as JSON") { anyApp, id, reason };
        show.SetAction((arguments, cancellation) => Failures.ReportAsync(async () =>
        {
            await using var learning = await LearningHost.OpenAsync(arguments.GetRequiredValue(data));
            var count = 0;
            await foreach (var kept in FindAsync(learning, arguments.GetRequiredValue(tenant), arguments.GetValue(anyApp), arguments.GetValue(id), arguments.GetValue(reason), cancellation))
            {
                using var buffer = new MemoryStream();
                using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping })) FeedbackJsonWriter.Write(json, kept, whole: true);
                Console.WriteLine(Encoding.UTF8.GetString(buffer.ToArray()));
                count++;
            }
            return count > 0 ? 0 : throw new ArgumentException("there is no such feedback in quarantine");
        }));

        var release = new Command("release", "Learn feedback in quarantine after all, past the guards; what can't be learnt stays") { app, id, reason };
        release.SetAction((arguments, cancellation) => Failures.ReportAsync(async () =>
        {
            var (one, why) = (arguments.GetValue(id), arguments.GetValue(reason));
            if (one is null && why is null) throw new ArgumentException("release takes --id or --reason: which of it is to be learnt ('skiff quarantine list' shows both; --reason \"\" is all of it)");
            await using var learning = await LearningHost.OpenAsync(arguments.GetRequiredValue(data));
            var results = await learning.Learner.ReleaseAsync(
                arguments.GetRequiredValue(tenant), arguments.GetRequiredValue(app), accepted => Is(accepted, one, why), cancellation);
            foreach (var result in results.Where(result => !result.Learnt)) Console.WriteLine($"{result.Message.FeedbackId} stays: {Reason(result)}");
            Console.WriteLine($"{results.Count(result => result.Learnt)} of {results.Count} learnt");
            return results.Count > 0 ? 0 : throw new ArgumentException("there is no such feedback in quarantine");
        }));

        root.Add(new Command("quarantine", "Feedback that could not be learnt") { list, show, release });
    }

    private static async IAsyncEnumerable<KeptFeedback> FindAsync(
        LearningHost learning, string tenant, string? app, string? id, string? reason, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellation)
    {
        var query = new FeedbackQuery(app is null ? "" : tenant, app ?? "") { OnlyQuarantined = true };
        await foreach (var kept in learning.State.ReadFeedbackAsync(query, cancellation))
        {
            if (Is(kept.Accepted, id, reason)) yield return kept;
        }
    }

    private static bool Is(AcceptedFeedback accepted, string? id, string? reason) =>
        (id is null || accepted.Message.FeedbackId == id) && (reason is null || Reason(accepted).StartsWith(reason, StringComparison.Ordinal));

    private static string Reason(AcceptedFeedback accepted) => accepted.IsQuarantined ? accepted.Note![AcceptedFeedback.Quarantine.Length..] : accepted.Note ?? "";
}
