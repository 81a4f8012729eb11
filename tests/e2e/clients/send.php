<?php
// A choice and its reward, by the generated client in the folder that is named.
require 'GuzzleHttp/autoload.php';

spl_autoload_register(function (string $class): void {
    $path = getenv('CLIENT') . '/lib/' . str_replace('\\', '/', substr($class, strlen('EmailBandits\\'))) . '.php';
    if (str_starts_with($class, 'EmailBandits\\') && is_file($path)) {
        require $path;
    }
});

error_reporting(E_ALL);
set_error_handler(function (int $level, string $message, string $file, int $line): bool {
    throw new ErrorException($message, 0, $level, $file, $line);
});

use EmailBandits\Api\DecisionsApi;
use EmailBandits\Api\ExperimentsApi;
use EmailBandits\Api\SubjectsApi;
use EmailBandits\Configuration;
use EmailBandits\Model;

$settings = (new Configuration())->setHost(getenv('API'))->setAccessToken(getenv('TOKEN'));
$http = new GuzzleHttp\Client();
$api = new DecisionsApi($http, $settings);

$known = new Model\Request(['subject_id' => 'php-2', 'context' => ['recency' => 3, 'channel' => 'Web']]);
$email = $api->choose('generated', $known);
$person = new Model\Request(['subject_id' => 'php-1']);
$batch = $api->chooseBatch('generated', new Model\ChooseBatch(['requests' => [$person]]), 'php');

$id = $email->getDecisionId();
$click = new Model\Reward(
    ['decision_id' => $id, 'event_id' => 'click-1', 'metric' => 'click', 'occurred_at' => time()]
);
$receipt = $api->recordRewards(new Model\RewardBatch(['rewards' => [$click], 'time_unit' => 'seconds']));
$click->setOccurredAt(new DateTime());
if ($api->recordRewards(new Model\RewardBatch(['rewards' => [$click]]))->getRepeated() !== 1) {
    throw new UnexpectedValueException('it came again, with its time as a text');
}

$experiment = (new ExperimentsApi($http, $settings))->readExperiment('generated');
$erasure = new Model\SubjectErasureRequest(['subject_id' => 'php-1']);
$erased = (new SubjectsApi($http, $settings))->eraseSubjectData($erasure);

$results = (new ExperimentsApi($http, $settings))->readResults('generated');
if ($results->getArms()[0]->getValue()['type'] !== 'not_yet') {
    throw new UnexpectedValueException('nothing is closed yet');
}

echo json_encode([
    'id' => $id,
    'variant' => $email->getSlots()['subject_line']->getVariant(),
    'name' => $experiment->getDeclaration()->getPolicy()['name'],
    'batch' => count($batch->getDecisions()),
    'accepted' => $receipt->getAccepted(),
    'erased' => $erased->getDecisions(),
]), "\n";
