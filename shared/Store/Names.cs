using System.Buffers;

namespace Skiff.Store;

/// <summary>The one rule for names of tenants, models, apps and aliases: they become keys of stores and parts of paths, so nothing else gets in.</summary>
public static class Names
{
    public const string Rule = "1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'";

    private static readonly SearchValues<char> Allowed =
        SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

    public static bool IsValid(ReadOnlySpan<char> name) => name.Length is >= 1 and <= 64 && !name.ContainsAnyExcept(Allowed);

    /// <exception cref="InvalidNameException">The name breaks <see cref="Rule"/>; the message says so.</exception>
    public static string Check(string what, string name) => IsValid(name) ? name : throw new InvalidNameException(what, name);
}

public sealed class InvalidNameException(string what, string name)
    : Exception($"'{(name.Length <= 80 ? name : name[..80] + "…")}' is not a valid {what} name: it takes {Names.Rule}");
