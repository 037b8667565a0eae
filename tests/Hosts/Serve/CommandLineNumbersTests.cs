using System.CommandLine;
using System.Globalization;
using Skiff.Serve;
using Skiff.Support;

namespace Skiff.Hosts.Serve;

/// <summary>Numbers on the command line: what is written is what is meant, or refused.</summary>
public sealed class CommandLineNumbersTests
{
    [Theory]
    [InlineData("0.2", 0.2)]
    [InlineData("1e3", 1000.0)]
    [InlineData("-2", -2.0)]
    [InlineData("0,2", null)]
    [InlineData("1,000", null)]
    [InlineData("NaN", null)]
    [InlineData("1e400", null)]
    [InlineData("two", null)]
    public void Reals(string text, double? expected)
    {
        Parsed(new Option<double>("--x") { DefaultValueFactory = _ => 7 }, text, expected ?? 0, expected is not null);
        Parsed(new Option<double?>("--x"), text, expected, expected is not null);
    }

    [Theory]
    [InlineData("12", 12)]
    [InlineData("-2", -2)]
    [InlineData("1,0", null)]
    [InlineData("1.0", null)]
    [InlineData("1e3", null)]
    [InlineData("99999999999999999999", null)]
    public void Wholes(string text, int? expected)
    {
        Parsed(new Option<int>("--x"), text, expected ?? 0, expected is not null);
        Parsed(new Option<int?>("--x"), text, expected, expected is not null);
        Parsed(new Option<long>("--x"), text, expected ?? 0, expected is not null);
    }

    [Fact]
    public void OptionThatIsNotGiven_KeepsItsDefault()
    {
        var (real, whole, none) = (new Option<double>("--real") { DefaultValueFactory = _ => 0.5 }, new Option<int>("--whole") { DefaultValueFactory = _ => 3 }, new Option<double?>("--none"));
        var root = new RootCommand { real, whole, none };
        CommandLineNumbers.ReadStrictly(root);
        var arguments = root.Parse([]);

        Assert.Equal((0.5, 3, null), (arguments.GetValue(real), arguments.GetValue(whole), arguments.GetValue(none)));
    }

    [Fact]
    public async Task EveryCommand_RefusesACommaAndNamesTheOption()
    {
        foreach (var (says, command) in new (string, string[])[]
        {
            ("--slack is '0,2': it takes a number like 1200 or 0.2, without commas", ["simulate", "--slack", "0,2"]),
            ("--requests is '1,000': it takes a whole number up to 9223372036854775807, without commas", ["simulate", "--requests", "1,000"]),
            ("--seed is '-1': it takes a whole number from 0 up to 18446744073709551615, without commas", ["simulate", "--seed", "-1"]),
            ("--rate is '2,5': it takes", ["plan", "--rate", "2,5"]),
            ("--cap is '0,1': it takes", ["prior", "refresh", "films", "--cap", "0,1"]),
            ("skiff: --cap takes a number above 0", ["prior", "refresh", "films", "--cap", "0"]),
            ("VERSION is '1,0': it takes", ["alias", "m", "1,0"]),
        })
        {
            var result = await SkiffProcess.RunAsync(command);
            Assert.True(result.ExitCode == 1 && result.ErrorLines.Any(line => line.StartsWith(says, StringComparison.Ordinal)), $"{string.Join(' ', command)} → {result.ExitCode}: {result.Output}{result.Error}");
        }
    }

    private static void Parsed<T>(Option<T> option, string text, T expected, bool taken)
    {
        var (root, culture) = (new RootCommand { option }, CultureInfo.CurrentCulture);
        CommandLineNumbers.ReadStrictly(root);
        try
        {
            // Where a comma separates decimals, nothing is read otherwise.
            var commas = (CultureInfo)CultureInfo.InvariantCulture.Clone();
            (commas.NumberFormat.NumberDecimalSeparator, commas.NumberFormat.NumberGroupSeparator) = (",", ".");
            CultureInfo.CurrentCulture = commas;
            var arguments = root.Parse(["--x", text]);
            if (taken) Assert.Equal(expected, arguments.GetValue(option));
            else Assert.Contains($"--x is '{text}': it takes", Assert.Single(arguments.Errors).Message, StringComparison.Ordinal);
        }
        finally
        {
            CultureInfo.CurrentCulture = culture;
        }
    }
}
