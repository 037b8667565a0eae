using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Text;
using Skiff.Apps;
using Skiff.Cascades.Tuning;
using Skiff.Support;

namespace Skiff.Unit.Cascades.Tuning;

public sealed class LabelledRowsTests : IDisposable
{
    private readonly ScratchFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void JsonLines_GiveInputsAndLabelsByIndexOrName()
    {
        var rows = Read(Write("a.jsonl", "{\"input\":[1,2,3,4],\"label\":1}\n\n{\"label\":\"one\",\"id\":7,\"input\":[5,6,7,8]}\r\n"u8.ToArray()));

        Assert.Equal([1, 0], rows.Labels);
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8], Values(rows));
        Assert.Equal([2, 2, 2], rows.Input.Shape);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void IdxPair_IsScaledInWhicheverOrderTheFilesCome(bool swap)
    {
        var inputs = Write("v-images-idx3-ubyte.gz", Gzip([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 51, 102, 153, 204, 255, 0, 51]));
        var labels = Write("v-labels-idx1-ubyte", [0, 0, 8, 1, 0, 0, 0, 2, 1, 0]);

        var rows = LabelledRows.Read(swap ? [labels, inputs] : [inputs, labels], App(), scale: 51, offset: 51);

        Assert.Equal([1, 0], rows.Labels);
        Assert.Equal([-1, 0, 1, 2, 3, 4, -1, 0], Values(rows));
        Assert.Equal([3, 4, -1, 0], MemoryMarshal.Cast<byte, float>(rows.Buffer.Span(rows.Rows(1, 1).Offset, rows.Rows(1, 1).Length)).ToArray());
    }

    [Theory]
    [InlineData("", "no rows")]
    [InlineData("{\"input\":[1,2,3,4]}", "line 1 has no 'label'")]
    [InlineData("{\"label\":1}", "line 1 has no 'input'")]
    [InlineData("{\"input\":[1,2,3,4],\"label\":0}\n{\"input\":[1,2,3],\"label\":0}", "line 2: ")]
    [InlineData("{\"input\":[1,2,3,4],\"label\":2}", "label 2 is none of the 2")]
    [InlineData("{\"input\":[1,2,3,4],\"label\":-1}", "label -1 is none of the 2")]
    [InlineData("{\"input\":[1,2,3,4],\"label\":\"six\"}", "'six' is none of the labels")]
    [InlineData("{\"input\":[1,2,3,4],\"label\":0", "line 1: ")]
    [InlineData("input,label", "line 1: ")]
    public void WrongLines_AreNamed(string content, string says) => Refuses(says, Write("a.jsonl", Encoding.UTF8.GetBytes(content)));

    [Fact]
    public void WrongIdxFiles_AreNamed()
    {
        var images = Write("images", [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4]);
        var wide = Write("wide", [0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 5, 1, 2, 3, 4, 5]);
        var one = Write("one", [0, 0, 8, 1, 0, 0, 0, 1, 1]);

        Refuses("no labels", images);
        Refuses("'one' 1 labels", Write("two", [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 4, 1, 2, 3, 4, 5, 6, 7, 8]), one);
        Refuses("rows of 5 values", wide, one);
        Refuses("says 1 × 2 × 2 bytes and has 3", Write("short", [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3]), one);
        Refuses("ends within its header", Write("cut", [0, 0, 8, 3, 0, 0]), one);
        Refuses("label 7 is none of the 2", images, Write("seven", [0, 0, 8, 1, 0, 0, 0, 1, 7]));
        Refuses("2 idx files of inputs", images, wide, one);
        Refuses("damaged gzip", Write("bad.gz", [0x1f, 0x8b, 1, 2, 3]), one);
    }

    [Fact]
    public void Path_StandsForItsDataSet()
    {
        string[] val = [Write("val-images-idx3-ubyte.gz", [1]), Write("val-labels-idx1-ubyte.gz", [1])];
        Write("model.onnx", [1]);

        Assert.Equal(val, LabelledRows.Find(_folder.Path));
        Assert.Equal(val, LabelledRows.Find(_folder["val"]));
        Assert.Equal([val[1]], LabelledRows.Find(val[1]));

        Write("test-images-idx3-ubyte.gz", [1]);
        Assert.Equal(val, LabelledRows.Find(_folder["val"]));
        Assert.Contains("2 data sets, test, val", Assert.Throws<FormatException>(() => LabelledRows.Find(_folder.Path)).Message);
        Assert.Contains("there is no file or folder", Assert.Throws<FormatException>(() => LabelledRows.Find(_folder["nix"])).Message);
    }

    private static AppDocument App() =>
        AppDocument.Parse("""{"name":"a","input":{"name":"x","type":"FP32","shape":[2,2]},"labels":["one","two"],"cascade":[{"model":"m"}]}"""u8);

    private static LabelledRows Read(params string[] paths) => LabelledRows.Read(paths, App(), 255, 0);

    private static void Refuses(string says, params string[] paths) => Assert.Contains(says, Assert.Throws<FormatException>(() => Read(paths)).Message);

    private static float[] Values(LabelledRows rows) => MemoryMarshal.Cast<byte, float>(rows.Buffer.Span(rows.Input.Offset, rows.Input.Length)).ToArray();

    private static byte[] Gzip(byte[] content)
    {
        using var packed = new MemoryStream();
        using (var gzip = new GZipStream(packed, CompressionMode.Compress)) gzip.Write(content);
        return packed.ToArray();
    }

    private string Write(string name, byte[] content)
    {
        File.WriteAllBytes(_folder[name], content);
        return _folder[name];
    }
}
