using Skiff.Monitoring;

namespace Skiff.Unit.Monitoring;

public sealed class MergedMetricsTests
{
    [Fact]
    public void Families_StandTogether_WithALabelOfWhoseTheyAre()
    {
        var one = "# HELP a_total Of a\n# TYPE a_total counter\na_total{model=\"m\"} 1\na_total{model=\"n\"} 2\n# HELP b Of b\n# TYPE b gauge\nb 3.5\n";
        var other = "# HELP b Of b\n# TYPE b gauge\nb 4\n# HELP c Of c\n# TYPE c gauge\nc 5\n";

        Assert.Equal(
            "# HELP a_total Of a\n# TYPE a_total counter\na_total{model=\"m\"} 1\na_total{model=\"n\"} 2\n# HELP b Of b\n# TYPE b gauge\nb 3.5\nb{replica=\"h:1\"} 4\n# HELP c Of c\n# TYPE c gauge\nc{replica=\"h:1\"} 5\n",
            MergedMetrics.Merge("replica", [("", one), ("h:1", other)]));
        Assert.Contains("a_total{replica=\"h:1\",model=\"m\"} 1\n", MergedMetrics.Merge("replica", [("h:1", one)]));
    }
}
