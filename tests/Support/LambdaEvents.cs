using System.Text.Json.Nodes;

namespace Skiff.Support;

/// <summary>Events in the shape of AWS's published samples, with the parts that a test is about put in.</summary>
public static class LambdaEvents
{
    /// <summary>A request through an HTTP API, payload format 2.0.</summary>
    public static string HttpApi(Action<JsonObject>? change = null) => Changed(change, """
        {
          "version": "2.0", "routeKey": "$default", "rawPath": "/my/path", "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=value",
          "cookies": ["cookie1=a", "cookie2=b"],
          "headers": { "header1": "value1", "header2": "value1,value2", "host": "id.execute-api.us-east-1.amazonaws.com", "content-length": "17",
            "x-amzn-trace-id": "Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e", "x-forwarded-for": "192.0.2.1", "x-forwarded-port": "443", "x-forwarded-proto": "https" },
          "queryStringParameters": { "parameter1": "value1,value2", "parameter2": "value" },
          "requestContext": {
            "accountId": "123456789012", "apiId": "api-id",
            "authorizer": { "jwt": { "claims": { "claim1": "value1" }, "scopes": ["scope1", "scope2"] } },
            "domainName": "id.execute-api.us-east-1.amazonaws.com", "domainPrefix": "id",
            "http": { "method": "POST", "path": "/my/path", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "agent" },
            "requestId": "id", "routeKey": "$default", "stage": "$default", "time": "12/Mar/2020:19:03:58 +0000", "timeEpoch": 1583348638390
          },
          "body": "Hello from Lambda", "pathParameters": { "parameter1": "value1" }, "isBase64Encoded": false, "stageVariables": { "stageVariable1": "value1" }
        }
        """);

    /// <summary>A request through a function URL.</summary>
    public static string FunctionUrl(Action<JsonObject>? change = null) => Changed(change, """
        {
          "version": "2.0", "routeKey": "$default", "rawPath": "/my/path", "rawQueryString": "parameter1=value1", "cookies": ["cookie1=a"],
          "headers": { "header1": "value1", "host": "url-id.lambda-url.us-west-2.on.aws" },
          "queryStringParameters": { "parameter1": "value1" },
          "requestContext": {
            "accountId": "123456789012", "apiId": "url-id", "authentication": null,
            "authorizer": { "iam": { "accessKey": "AKIA...", "accountId": "111122223333", "callerId": "AIDA...", "cognitoIdentity": null,
              "principalOrgId": null, "userArn": "arn:aws:iam::111122223333:user/example-user", "userId": "AIDA..." } },
            "domainName": "url-id.lambda-url.us-west-2.on.aws", "domainPrefix": "url-id",
            "http": { "method": "GET", "path": "/my/path", "protocol": "HTTP/1.1", "sourceIp": "123.123.123.123", "userAgent": "agent" },
            "requestId": "id", "routeKey": "$default", "stage": "$default", "time": "12/Mar/2020:19:03:58 +0000", "timeEpoch": 1583348638390
          },
          "body": null, "pathParameters": null, "isBase64Encoded": false, "stageVariables": null
        }
        """);

    /// <summary>Messages of a FIFO queue; without groups, of a standard one.</summary>
    public static string Sqs(params (string Id, string? Group, string Body)[] messages) => new JsonObject
    {
        ["Records"] = new JsonArray([.. messages.Select(message => Changed(message))]),
    }.ToJsonString();

    private static JsonNode Changed((string Id, string? Group, string Body) message)
    {
        var record = JsonNode.Parse("""
            {
              "messageId": "11d6ee51-4cc7-4302-9e22-7cd8afdaadf5", "receiptHandle": "AQEBBX8nesZEXmkhsmZeyIE8iQAMig7qw...", "body": "Test message.",
              "attributes": { "ApproximateReceiveCount": "2", "SentTimestamp": "1573251510774", "SequenceNumber": "18849496460467696128", "MessageGroupId": "1",
                "SenderId": "AIDAIO23YVJENQZJOL4VO", "MessageDeduplicationId": "1", "ApproximateFirstReceiveTimestamp": "1573251510774" },
              "messageAttributes": {}, "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3", "eventSource": "aws:sqs",
              "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:fifo.fifo", "awsRegion": "us-east-2"
            }
            """)!;
        record["messageId"] = message.Id;
        record["body"] = message.Body;
        if (message.Group is null) record["attributes"]!.AsObject().Remove("MessageGroupId");
        else record["attributes"]!["MessageGroupId"] = message.Group;
        return record;
    }

    private static string Changed(Action<JsonObject>? change, string sample)
    {
        var json = JsonNode.Parse(sample)!.AsObject();
        change?.Invoke(json);
        return json.ToJsonString();
    }
}
