using System.Globalization;
using System.IO.Compression;
using Skiff.Support;

namespace Skiff.Benchmarks;

/// <summary>A rating of the films sample.</summary>
internal readonly record struct Rating(int User, int Item, int Value)
{
    /// <summary>All 17,373, user by user, each one's in true time order.</summary>
    public static List<Rating> ReadAll()
    {
        using var reader = new StreamReader(new GZipStream(File.OpenRead(Repository.Sample("films/ratings-stream.csv.gz")), CompressionMode.Decompress));
        reader.ReadLine();
        var ratings = new List<Rating>();
        while (reader.ReadLine() is { } line)
        {
            var fields = line.Split(',');
            ratings.Add(new Rating(Number(fields[0]), Number(fields[1]), Number(fields[3])));
        }
        return ratings;

        static int Number(string field) => int.Parse(field, CultureInfo.InvariantCulture);
    }
}
