// SPDX-License-Identifier: Apache-2.0
import { render } from 'preact';
import 'uplot/dist/uPlot.min.css';
import './styles.css';
import { Chart } from './chart';
import { startFeed } from './feed';
import { Headlines } from './headline';
import { Notices } from './notices';
import { PANELS } from './panels';
import { Peers } from './peers';
import { followAddress, frameTime, link, peer, selectPeer, startClock } from './store/state';
import { startTheme } from './theme';
import { Toolbar } from './toolbar';

function App() {
	return (
		<>
			<Toolbar />
			<main class={link.value.dim ? 'dim' : undefined} data-frame={frameTime.value ?? ''}>
				<Notices />
				<Headlines />
				<div class="panels">{PANELS.map((panel) => <Chart key={panel.id} panel={panel} />)}</div>
				<Peers />
			</main>
		</>
	);
}

addEventListener('keydown', (event) => {
	if (event.key === 'Escape' && peer.peek() !== null && !(event.target instanceof HTMLInputElement))
		selectPeer(null);
});
followAddress();
startTheme();
startClock();
startFeed();
render(<App />, document.getElementById('app')!);
