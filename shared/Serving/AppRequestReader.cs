using System.Text;
using Skiff.Apps;
using Skiff.Batching;
using Skiff.Models;
using Skiff.Serving.Json;
using Skiff.Store;

namespace Skiff.Serving;

/// <summary>Reads the bodies of <c>/apps/{app}/predict</c> and <c>/apps/{app}/feedback</c>. Fields that are not known are refused.</summary>
internal static class AppRequestReader
{
    public const int LongestUser = 256;
    public const int LongestFeedbackId = 1024;

    /// <summary>Rows, or pieces of feedback, of one request: a row of a few bytes becomes an answer of hundreds.</summary>
    public const int MostRows = 10_000;

    public readonly record struct Predict(string? User, string? Context, Tensor Input, bool IsBatch, double? DeadlineMs, int Priority, bool Explain);

    /// <summary>Whether a body may say a priority, without reading it. One that hides the name behind escapes is taken for one that doesn't.</summary>
    public static bool MayHavePriority(ReadOnlySpan<byte> body) => body.IndexOf("\"priority\""u8) >= 0;

    public static Predict ReadPredict(ReadOnlySpan<byte> body, App app, InferRequest space)
    {
        string? user = null, context = null;
        double? deadline = null;
        var priority = Priorities.Normal;
        var explain = false;
        Tensor? single = null, batch = null;
        var cursor = new JsonCursor(body);
        cursor.BeginObject();
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("user"u8)) user = ReadUser(ref cursor);
            else if (name.SequenceEqual("context"u8)) context = ReadContext(ref cursor, app);
            else if (name.SequenceEqual("input"u8)) single = ReadInput(ref cursor, app, space, single);
            else if (name.SequenceEqual("inputs"u8)) batch = ReadInputs(ref cursor, app, space, batch);
            else if (name.SequenceEqual("deadline_ms"u8))
            {
                deadline = cursor.ReadDouble("'deadline_ms'");
                if (!(deadline > 0)) throw RequestException.Invalid($"'deadline_ms' is {deadline}: it takes a positive number of milliseconds");
            }
            else if (name.SequenceEqual("priority"u8)) priority = Priorities.Check(cursor.ReadInt64("'priority'"));
            else if (name.SequenceEqual("explain"u8)) explain = cursor.ReadBoolean("'explain'");
            else throw Unknown(name, "context, user, input or inputs, deadline_ms, priority and explain");
        }
        cursor.End();
        if (single is not null && batch is not null) throw RequestException.Invalid("the request has both 'input' and 'inputs': it takes one of them");
        var input = single ?? batch ?? throw RequestException.Invalid($"the request has no 'input': it takes {app.RowElements} values, or 'inputs' with that many in each row");
        return new Predict(user, context, input, batch is not null, deadline, priority, explain);
    }

    /// <returns>The feedback, one or, under <c>"feedback"</c>, several.</returns>
    public static (List<FeedbackRequest> Requests, bool IsBatch) ReadFeedback(ReadOnlySpan<byte> body, App app, InferRequest space)
    {
        var cursor = new JsonCursor(body);
        var start = cursor.Mark();
        string? before = null;
        cursor.BeginObject();
        while (cursor.NextProperty(out var name))
        {
            if (!name.SequenceEqual("feedback"u8))
            {
                before ??= Encoding.UTF8.GetString(name);
                cursor.Skip();
                continue;
            }
            if (before is not null) throw Unknown(before, "nothing beside 'feedback'");
            var several = new List<FeedbackRequest>();
            cursor.BeginArray("'feedback'");
            while (cursor.NextElement())
            {
                if (several.Count == MostRows) throw RequestException.Invalid($"'feedback' has more than {MostRows} elements: send it in parts; none was accepted");
                several.Add(ReadItem(ref cursor, app, space, several.Count));
            }
            if (cursor.NextProperty(out var other)) throw Unknown(other, "nothing beside 'feedback'");
            cursor.End();
            return several.Count > 0 ? (several, true) : throw RequestException.Invalid("'feedback' is empty: it takes at least one");
        }
        cursor.Return(start);
        var one = ReadOne(ref cursor, app, space);
        cursor.End();
        return ([one], false);
    }

    private static FeedbackRequest ReadItem(ref JsonCursor cursor, App app, InferRequest space, int index)
    {
        try
        {
            return ReadOne(ref cursor, app, space);
        }
        catch (RequestException e)
        {
            throw new RequestException(e.Refusal, $"feedback[{index}]: {e.Message}; none was accepted");
        }
    }

    private static FeedbackRequest ReadOne(ref JsonCursor cursor, App app, InferRequest space)
    {
        string? id = null, user = null, context = null, feedbackId = null;
        int? label = null;
        double? value = null;
        Tensor? input = null;
        cursor.BeginObject("feedback");
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("id"u8)) id = cursor.ReadString("'id'");
            else if (name.SequenceEqual("user"u8)) user = ReadUser(ref cursor);
            else if (name.SequenceEqual("context"u8)) context = ReadContext(ref cursor, app);
            else if (name.SequenceEqual("input"u8)) input = ReadInput(ref cursor, app, space, input);
            else if (name.SequenceEqual("label"u8)) label = ReadLabel(ref cursor, app);
            else if (name.SequenceEqual("value"u8))
            {
                value = cursor.ReadDouble("'value'");
                if (!float.IsFinite((float)value.Value)) throw RequestException.Invalid($"'value' is {value}: it takes a number in FP32's range");
            }
            else if (name.SequenceEqual("feedback_id"u8))
            {
                feedbackId = cursor.ReadString("'feedback_id'");
                if (feedbackId.Length is 0 or > LongestFeedbackId) throw RequestException.Invalid($"'feedback_id' has {feedbackId.Length} characters: it takes 1 to {LongestFeedbackId}");
            }
            else throw Unknown(name, "id, or user and input; label or value; feedback_id");
        }
        if (id is not null && (user is not null || context is not null || input is not null)) throw RequestException.Invalid("feedback takes either 'id' or 'user' and 'input': the decision knows whose it is");
        if (id is null && ((user ?? context) is null || input is null)) throw RequestException.Invalid("feedback takes 'id', a decision's id, or both 'user' and 'input'");
        return new FeedbackRequest { Id = id, User = user, Context = context, Input = input, Label = label, Value = value, FeedbackId = feedbackId };
    }

    internal static string? ReadUser(ref JsonCursor cursor)
    {
        if (cursor.TryReadNull()) return null;
        var user = cursor.ReadString("'user'");
        if (user.Length is 0 or > LongestUser) throw RequestException.Invalid($"'user' has {user.Length} characters: it takes 1 to {LongestUser}");
        // No address leads to such a user: nobody could show what is kept, or erase it.
        return user is not ("." or "..") && !user.Any(char.IsControl) ? user : throw RequestException.Invalid("'user' is '.' or '..', or has a control character: it takes any other name");
    }

    private static string? ReadContext(ref JsonCursor cursor, App app)
    {
        if (cursor.TryReadNull()) return null;
        var context = cursor.ReadString("'context'");
        if (app.Ensemble?.Policy is not { Per: PolicyPer.Context }) throw RequestException.Invalid($"app '{app.Name}' has no policy that goes by contexts: leave 'context' out");
        return Names.IsValid(context) ? context : throw RequestException.Invalid($"'context' is '{context}': it takes {Names.Rule}");
    }

    private static int ReadLabel(ref JsonCursor cursor, App app)
    {
        var count = app.Document.Labels.Count;
        if (count == 0) throw RequestException.Invalid($"app '{app.Name}' has no labels: it takes 'value', a number");
        if (cursor.Peek() == JsonKind.String)
        {
            var name = cursor.ReadString();
            var index = app.LabelIndex(name);
            return index >= 0 ? index : throw RequestException.Invalid($"app '{app.Name}' has no label '{name}': it takes {string.Join(", ", app.Document.Labels)}, or 0 to {count - 1}");
        }
        var label = cursor.ReadInt64("'label'", "a label's name or index");
        return label >= 0 && label < count ? (int)label : throw RequestException.Invalid($"app '{app.Name}' has no label {label}: it takes 0 to {count - 1}, or a label's name");
    }

    private static Tensor ReadInput(ref JsonCursor cursor, App app, InferRequest space, Tensor? before)
    {
        if (before is not null) throw RequestException.Invalid("'input' stands twice in the request");
        var tensor = NewTensor(app, space);
        ReadRow(ref cursor, app, space, tensor, "'input'", isFirst: true);
        tensor.SetShape([1, .. app.Document.Input.Shape]);
        return tensor;
    }

    private static Tensor ReadInputs(ref JsonCursor cursor, App app, InferRequest space, Tensor? before)
    {
        if (before is not null) throw RequestException.Invalid("'inputs' stands twice in the request");
        var tensor = NewTensor(app, space);
        var rows = 0;
        cursor.BeginArray("'inputs'");
        while (cursor.NextElement())
        {
            if (rows == MostRows) throw RequestException.Invalid($"'inputs' has more than {MostRows} rows: send them in parts");
            ReadRow(ref cursor, app, space, tensor, $"'inputs[{rows}]'", isFirst: rows == 0);
            rows++;
        }
        if (rows == 0) throw RequestException.Invalid("'inputs' is empty: it takes at least one row");
        tensor.SetShape([rows, .. app.Document.Input.Shape]);
        return tensor;
    }

    private static Tensor NewTensor(App app, InferRequest space)
    {
        var tensor = space.AddInput();
        tensor.Name = app.Document.Input.Name;
        tensor.Type = app.InputType;
        tensor.Length = 0;
        return tensor;
    }

    private static void ReadRow(ref JsonCursor cursor, App app, InferRequest space, Tensor tensor, string what, bool isFirst)
    {
        var size = app.RowElements * app.InputType.Size();
        var offset = isFirst ? space.Buffer.Allocate(size) : space.Buffer.Extend(size);
        if (isFirst) tensor.Offset = offset;
        tensor.Length += size;
        TensorJson.Read(ref cursor, app.InputType, app.Document.Input.Shape, space.Buffer.Span(offset, size), what);
    }

    private static RequestException Unknown(ReadOnlySpan<byte> name, string allowed) => Unknown(Encoding.UTF8.GetString(name), allowed);

    private static RequestException Unknown(string name, string allowed) => RequestException.Invalid($"unknown field '{name}': it takes {allowed}");
}
