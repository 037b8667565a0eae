using System.Reflection;

namespace Skiff;

/// <summary>What this program calls itself.</summary>
public static class Product
{
    public static string Version { get; } = typeof(Product).Assembly.GetName().Version?.ToString(3) ?? "0.0.0";
}
