using System.Text;
using Skiff.Ranking;

namespace Skiff.Unit.Ranking;

public sealed class VowpalHashTests
{
    private const uint EighteenBits = (1 << 18) - 1;

    /// <summary>Published values of MurmurHash3_x86_32.</summary>
    [Theory]
    [InlineData("", 0, 0)]
    [InlineData("", 1, 0x514E28B7)]
    [InlineData("test", 0, 0xBA6BD213)]
    [InlineData("Hello, world!", 1234, 0xFAF6CDB3)]
    [InlineData("The quick brown fox jumps over the lazy dog", 0x9747B28C, 0x2FA826CD)]
    public void Murmur_IsThePublishedOne(string text, uint seed, uint expected) => Assert.Equal(expected, VowpalHash.Murmur(Encoding.UTF8.GetBytes(text), seed));

    /// <summary>From the first tutorial of Vowpal Wabbit, which shows the output of <c>vw house_dataset --audit</c>: 18 bits, no namespace.</summary>
    [Theory]
    [InlineData("price", 229902)]
    [InlineData("sqft", 162853)]
    [InlineData("age", 165201)]
    [InlineData("2006", 2006)]
    [InlineData(" 1976\t", 1976)]
    public void Names_AreHashedAsVowpalWabbitSays(string name, uint index) => Assert.Equal(index, VowpalHash.Hash(Encoding.UTF8.GetBytes(name), 0) & EighteenBits);

    /// <summary>From its documentation of the input format: <c>myname^myvalue:112555</c>.</summary>
    [Fact]
    public void Text_IsHashedUnderItsName() => Assert.Equal(112555u, VowpalHash.Hash("myvalue"u8, VowpalHash.Hash("myname"u8, 0)) & EighteenBits);

    [Fact]
    public void Digits_AreAddedToTheSeed() => Assert.Equal(1042u, VowpalHash.Hash("42"u8, 1000));
}
