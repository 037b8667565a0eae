using System.Globalization;
using System.IO.Compression;

namespace Skiff.Support;

/// <summary>A rating of the films sample.</summary>
public readonly record struct Rating(int User, int Item, int Value)
{
    /// <summary>All 17,373, user by user, each one's in true time order.</summary>
    public static List<Rating> ReadAll()
    {
        using var reader = new StreamReader(new GZipStream(File.OpenRead(Repository.Sample("films/ratings-stream.csv.gz")), CompressionMode.Decompress));
        if (reader.ReadLine()?.StartsWith("user,item,imdb_id,rating,", StringComparison.Ordinal) != true) throw new InvalidDataException("the ratings have other columns than user, item, imdb_id and rating");
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
