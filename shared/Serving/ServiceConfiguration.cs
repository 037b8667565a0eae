using System.Globalization;
using System.Text.Json;
using System.Xml;
using Skiff.Apps;
using Skiff.Serving.Json;

namespace Skiff.Serving;

/// <summary>The service configuration of Azure Personalizer, which here is a part of the app's document: what is put becomes the document's next version.</summary>
internal static class ServiceConfiguration
{
    public static void Write(Utf8JsonWriter json, RankDocument rank)
    {
        json.WriteStartObject();
        json.WriteString("rewardWaitTime"u8, rank.RewardWait);
        json.WriteNumber("defaultReward"u8, rank.DefaultReward);
        json.WriteString("rewardAggregation"u8, rank.Aggregation == RewardAggregation.Sum ? "sum"u8 : "earliest"u8);
        json.WriteNumber("explorationPercentage"u8, rank.Policy.Epsilon);
        json.WriteString("modelExportFrequency"u8, rank.ModelExport);
        json.WriteNumber("logRetentionDays"u8, rank.LogRetentionDays);
        json.WriteString("learningMode"u8, rank.Mode == RankMode.Apprentice ? "Apprentice"u8 : "Online"u8);
        json.WriteEndObject();
    }

    /// <summary>A document's section with what a body says; what it doesn't say stays, and fields that have no meaning here are passed over.</summary>
    public static RankDocument Read(ReadOnlySpan<byte> body, RankDocument rank)
    {
        rank = rank with { };
        var cursor = new JsonCursor(body);
        cursor.BeginObject();
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("rewardWaitTime"u8)) rank.RewardWait = ReadDuration(ref cursor, "'rewardWaitTime'");
            else if (name.SequenceEqual("defaultReward"u8)) rank.DefaultReward = cursor.ReadDouble("'defaultReward'");
            else if (name.SequenceEqual("rewardAggregation"u8)) rank.Aggregation = ReadOneOf(ref cursor, "'rewardAggregation'", ("earliest", RewardAggregation.Earliest), ("sum", RewardAggregation.Sum));
            else if (name.SequenceEqual("explorationPercentage"u8)) rank.Policy = rank.Policy with { Epsilon = cursor.ReadDouble("'explorationPercentage'") };
            else if (name.SequenceEqual("modelExportFrequency"u8)) rank.ModelExport = ReadDuration(ref cursor, "'modelExportFrequency'");
            else if (name.SequenceEqual("logRetentionDays"u8)) rank.LogRetentionDays = (int)Math.Clamp(cursor.ReadInt64("'logRetentionDays'"), int.MinValue, int.MaxValue);
            else if (name.SequenceEqual("learningMode"u8)) rank.Mode = ReadOneOf(ref cursor, "'learningMode'", ("online", RankMode.Online), ("apprentice", RankMode.Apprentice));
            else cursor.Skip();
        }
        cursor.End();
        return rank;
    }

    /// <summary>As ISO 8601 has it, <c>PT10M</c>, or <c>00:10:00</c>.</summary>
    private static string ReadDuration(ref JsonCursor cursor, string what)
    {
        var text = cursor.ReadString(what);
        if (TimeSpan.TryParse(text, CultureInfo.InvariantCulture, out var span)) return XmlConvert.ToString(span);
        try
        {
            return XmlConvert.ToString(XmlConvert.ToTimeSpan(text));
        }
        catch (Exception e) when (e is FormatException or OverflowException)
        {
            throw RequestException.Invalid($"{what} is '{text}': it takes a duration such as \"PT10M\" or \"00:10:00\"");
        }
    }

    private static T ReadOneOf<T>(ref JsonCursor cursor, string what, params ReadOnlySpan<(string Name, T Value)> known)
    {
        var text = cursor.ReadString(what);
        foreach (var (name, value) in known)
        {
            if (name.Equals(text, StringComparison.OrdinalIgnoreCase)) return value;
        }
        throw RequestException.Invalid($"{what} is '{text}': it takes {known[0].Name} or {known[1].Name}");
    }
}
