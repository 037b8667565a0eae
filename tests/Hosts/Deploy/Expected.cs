namespace Skiff.Hosts.Deploy;

/// <summary>What the functions need of AWS, and why: the one place to change when the code calls something new. The tests hold it against the code and against template.yaml.</summary>
internal static class Expected
{
    private const string Models = "!Sub ${Models.Arn}/*", Logs = "!Sub ${Models.Arn}/*/logs/*", Bucket = "!GetAtt Models.Arn", State = "!GetAtt State.Arn", Queue = "!GetAtt Queue.Arn";

    /// <summary>Every call in infrastructure/Aws: the permission that it asks for, and the functions that make it; none where it is a publisher's or a test's.</summary>
    public static readonly (string Call, string Permission, string[] Functions)[] Calls =
    [
        ("GetObject", $"s3:GetObject on {Models}", ["Predict", "Feedback"]), // manifests, aliases, blobs
        ("GetObjectMetadata", $"s3:GetObject on {Models}", ["Predict", "Feedback"]), // of an empty object
        ("ListObjectsV2", $"s3:ListBucket on {Bucket}", ["Predict", "Feedback"]), // versions, apps; and GetObject answers 404 rather than 403 only to those who may list
        ("PutObject", $"s3:PutObject on {Logs}", ["Feedback"]), // segments of the log; publishing, which no function does, takes the rest of the bucket
        ("InitiateMultipartUpload", $"s3:PutObject on {Logs}", ["Feedback"]),
        ("UploadPart", $"s3:PutObject on {Logs}", ["Feedback"]),
        ("CompleteMultipartUpload", $"s3:PutObject on {Logs}", ["Feedback"]),
        ("AbortMultipartUpload", $"s3:AbortMultipartUpload on {Logs}", ["Feedback"]),

        ("GetItem", $"dynamodb:GetItem on {State}", ["Predict", "Feedback"]), // a user's weights; keys of the log
        ("Query", $"dynamodb:Query on {State}", ["Predict", "Feedback"]), // weights unless they are known; the whole head; events that are due
        ("Scan", $"dynamodb:Scan on {State}", ["Predict", "Feedback"]), // export, erasure and quarantine; the log
        ("DeleteItem", $"dynamodb:DeleteItem on {State}", ["Predict"]), // erasure
        ("PutItem", $"dynamodb:PutItem on {State}", ["Feedback"]), // keys of the log
        ("BatchGetItem", $"dynamodb:BatchGetItem on {State}", ["Predict", "Feedback"]), // what was accepted before; events; keys of the log, for an export too
        ("TransactWriteItems", $"dynamodb:PutItem on {State}", ["Predict", "Feedback"]), // conditions of puts ask for nothing more
        ("TransactWriteItems", $"dynamodb:ConditionCheckItem on {State}", ["Predict", "Feedback"]), // that a user was not erased meanwhile
        ("TransactWriteItems", $"dynamodb:DeleteItem on {State}", ["Predict", "Feedback"]), // erasure; events that are settled
        ("CreateTable", $"dynamodb:CreateTable on {State}", []), // EnsureTable, for tests: the template has made the table
        ("DescribeTable", $"dynamodb:DescribeTable on {State}", []),
        ("DescribeTimeToLive", $"dynamodb:DescribeTimeToLive on {State}", []),
        ("UpdateTimeToLive", $"dynamodb:UpdateTimeToLive on {State}", []),

        ("SendMessageBatch", $"sqs:SendMessage on {Queue}", ["Predict", "Feedback"]), // accepted feedback; what is due
        ("ReceiveMessage", $"sqs:ReceiveMessage on {Queue}", []), // the worker's of long-lived hosts
        ("DeleteMessageBatch", $"sqs:DeleteMessage on {Queue}", []),
    ];

    /// <summary>What Lambda does in a function's name: writes its log, and takes its messages from the queue.</summary>
    public static string[] OfLambda(string function) =>
    [
        $"logs:CreateLogStream on !GetAtt {function}Log.Arn", $"logs:PutLogEvents on !GetAtt {function}Log.Arn",
        .. function == "Feedback" ? (string[])[$"sqs:ReceiveMessage on {Queue}", $"sqs:DeleteMessage on {Queue}", $"sqs:GetQueueAttributes on {Queue}"] : [],
    ];

    /// <summary>The variables that a function knows and the template leaves to their defaults.</summary>
    public static string[] Defaults(string function) =>
    [
        "SKIFF_MODEL_CACHE_MB", // 256 of the 512 MB that a function's disk has
        "SKIFF_HEAD_CACHE_MB", // 32, which every memory size has
        "SKIFF_PREDICTION_CACHE_MB", // 64, likewise; nothing is kept where no app wants it
        "SKIFF_MAX_BODY_BYTES", // more than an event holds
        // Known to every host, and of no use to one that answers nobody: a secret is not handed to those who don't need it.
        .. function == "Feedback" ? (string[])["SKIFF_API_KEYS", "SKIFF_SECRET"] : [],
    ];
}
