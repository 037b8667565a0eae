using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;

namespace Skiff.Serve;

/// <summary>Numbers on a command line are written with a point before decimals and nothing between thousands, whatever the culture; the library's own reading takes <c>0,2</c> for 2.</summary>
public static class CommandLineNumbers
{
    /// <summary>Every option and argument of <paramref name="command"/> and of those below it that is a number is read so, and refused in one line otherwise.</summary>
    public static void ReadStrictly(Command command)
    {
        foreach (var option in command.Options)
        {
            switch (option)
            {
                case Option<double> real: real.CustomParser = given => Read<double>(given, option.Name); break;
                case Option<double?> real: real.CustomParser = given => Read<double>(given, option.Name); break;
                case Option<int> whole: whole.CustomParser = given => Read<int>(given, option.Name); break;
                case Option<int?> whole: whole.CustomParser = given => Read<int>(given, option.Name); break;
                case Option<long> whole: whole.CustomParser = given => Read<long>(given, option.Name); break;
                case Option<ulong> whole: whole.CustomParser = given => Read<ulong>(given, option.Name); break;
            }
        }
        foreach (var argument in command.Arguments.OfType<Argument<int>>()) argument.CustomParser = given => Read<int>(given, argument.Name);
        foreach (var below in command.Subcommands) ReadStrictly(below);
    }

    private static T Read<T>(ArgumentResult given, string name) where T : struct, INumber<T>, IMinMaxValue<T>
    {
        var isReal = typeof(T) == typeof(double);
        if (given.Tokens is not [{ Value: var text }]) return default;
        if (T.TryParse(text, isReal ? NumberStyles.Float : NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) && T.IsFinite(number)) return number;
        given.AddError($"{name} is '{text}': it takes {(isReal ? "a number like 1200 or 0.2" : $"a whole number{(T.IsZero(T.MinValue) ? " from 0" : "")} up to {T.MaxValue}")}, without commas");
        return default;
    }
}
